package boxlite

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"time"
)

// WriteFile writes data to a file of the box, which must run, and gives it these permissions,
// whether or not it exists. Its folder must exist. It belongs to root.
func (b *Box) WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	base := path.Base(name)
	if name == "" || base == "." || base == ".." || base == "/" || name[len(name)-1] == '/' {
		return argumentError("box_copy_in_tar", "%q does not name a file", name)
	}
	var header bytes.Buffer
	err := tar.NewWriter(&header).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg,
		Name:     base,
		Size:     int64(len(data)),
		Mode:     tarMode(perm),
		ModTime:  time.Now(),
	})
	if err != nil {
		return argumentError("box_copy_in_tar", "%q can't be written: %v", name, err)
	}
	// The data is padded to whole blocks, and two empty blocks end the archive.
	const block = 512
	end := make([]byte, (block-len(data)%block)%block+2*block)
	archive := io.MultiReader(&header, bytes.NewReader(data), bytes.NewReader(end))
	return b.CopyInTar(ctx, archive, path.Dir(name))
}

// tarMode gives permissions as tar has them.
func tarMode(perm fs.FileMode) int64 {
	mode := int64(perm.Perm())
	for flag, bit := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if perm&flag != 0 {
			mode |= bit
		}
	}
	return mode
}

// ReadFile reads a file of the box, which must run. A symbolic link is followed.
func (b *Box) ReadFile(ctx context.Context, name string) ([]byte, error) {
	stream, err := b.CopyOutTar(ctx, name, FollowLink())
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	archive := tar.NewReader(stream)
	header, err := archive.Next()
	if err != nil {
		return nil, readFileError(name, err)
	}
	if header.Typeflag != tar.TypeReg {
		return nil, argumentError("box_copy_out_tar", "%s is not a regular file", name)
	}
	var data bytes.Buffer
	if size := header.Size; size > 0 && size < 1<<20 {
		data.Grow(int(size) + bytes.MinRead)
	}
	if _, err := io.Copy(&data, archive); err != nil {
		return nil, readFileError(name, err)
	}
	// Only the end of the stream says that all went well.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return nil, readFileError(name, err)
	}
	return data.Bytes(), nil
}

func readFileError(name string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{
		Code: CodeInternal, Op: "box_copy_out_tar", causes: []error{err},
		Message: "can't read " + name + ": " + err.Error(),
	}
}
