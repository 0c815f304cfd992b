// Writes to a file through a shared mapping and reads it back with read(2).
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int count, char **arguments) {
    char buffer[8] = "";
    int file = open(arguments[1], O_RDWR | O_CREAT, 0644);
    if (count != 2 || file < 0 || ftruncate(file, 8192) < 0)
        return perror("open"), 1;
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        return perror("mmap"), 1;
    memcpy(map, "mapped", 6);
    if (msync(map, 8192, MS_SYNC) < 0 || pread(file, buffer, 6, 0) != 6)
        return perror("read"), 1;
    return printf("read: %s\n", buffer) < 0;
}
