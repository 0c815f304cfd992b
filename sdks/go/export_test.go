package boxlite

// Fields that the library has and Go does not are errors in tests.
func init() { refuseUnknown = true }

// What tests of the package's API need from its inside.
var (
	EncodeForTest   = encode
	CodeOfForTest   = codeOf
	DecodeForTest   = decode
	CodeErrorOfTest = func(code Code) error { return codeError(code) }
)

// WireOptions is what the library is given for options.
func WireOptions(options BoxOptions) any { return options.wire() }

// NewSaver gives what Output keeps of standard error.
func NewSaver(limit int) interface {
	Write([]byte) (int, error)
} {
	return &prefixSuffixSaver{limit: limit}
}

// SavedBytes gives what a saver kept.
func SavedBytes(saver any) []byte { return saver.(*prefixSuffixSaver).bytes() }
