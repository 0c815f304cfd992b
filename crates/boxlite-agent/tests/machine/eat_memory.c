/* Takes memory until the kernel kills it for that. */
#include <stdlib.h>
#include <string.h>

int main(void)
{
    const size_t bytes = 1 << 20;

    for (;;) {
        void *memory = malloc(bytes);

        if (memory == NULL)
            return 1;
        memset(memory, 1, bytes);
        /* The compiler must not take the write away. */
        __asm__ volatile("" : : "r"(memory) : "memory");
    }
}
