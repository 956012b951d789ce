/* A program that loads the reader's driver as pcscd does, and runs with the rights of its file's owner.
 *
 *   reader-driver DRIVER */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **arguments) {
    void *handle = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!handle) {
        fprintf(stderr, "%s\n", count == 2 ? dlerror() : "one argument");
        return 2;
    }
    long (*create)(unsigned long, char *) = NULL;
    long (*presence)(unsigned long) = NULL;
    *(void **)&create = dlsym(handle, "IFDHCreateChannelByName");
    *(void **)&presence = dlsym(handle, "IFDHICCPresence");
    if (!create || !presence)
        return 2;
    /* The socket that the environment names, or the usual one. */
    char device[] = "cardea:";
    long created = create(0, device);
    printf("as %d: created %ld\n", (int)geteuid(), created);
    presence(0);
    return 0;
}
