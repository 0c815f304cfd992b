/* The header, twice, in every dialect that scripts/test-sdk.sh asks for: C and C++. */
#include <boxlite.h>
#include <boxlite.h>

/* What a program relies on when it keeps these in its own structures. */
typedef char codes_are_32_bits[sizeof(boxlite_code_t) == 4 ? 1 : -1];
typedef char handles_are_64_bits[sizeof(boxlite_client_t) == 8 && sizeof(boxlite_box_t) == 8 ? 1 : -1];

int main(void)
{
    codes_are_32_bits codes = {0};
    handles_are_64_bits handles = {0};
    boxlite_error_free(0);
    return codes[0] + handles[0] + (boxlite_abi_version() == BOXLITE_ABI_VERSION ? 0 : 1);
}
