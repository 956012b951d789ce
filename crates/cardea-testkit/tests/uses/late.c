/* A program that goes on calling a PKCS#11 module while it ends, as poppler's pdfsig and others with NSS do: from exit
 * handlers registered before and after the module was loaded, from the destructor of a thread's own value, and from a
 * destructor of the program. Exit status 0: all calls came back, and the last ones with an error that the standard has.
 *
 * With a FIFO, the first handler waits until it was opened and closed by somebody who has ended the daemon meanwhile:
 * then the calls must come back, with whatever result.
 *
 * late MODULE PIN [FIFO] */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;

#define CKR_OK 0
#define CKR_SESSION_HANDLE_INVALID 0xB3
#define CKR_CRYPTOKI_NOT_INITIALIZED 0x190

static CK_RV (*C_Initialize)(void *);
static CK_RV (*C_Finalize)(void *);
static CK_RV (*C_GetSlotList)(unsigned char, CK_ULONG *, CK_ULONG *);
static CK_RV (*C_OpenSession)(CK_ULONG, CK_ULONG, void *, void *, CK_ULONG *);
static CK_RV (*C_CloseSession)(CK_ULONG);
static CK_RV (*C_CloseAllSessions)(CK_ULONG);
static CK_RV (*C_Login)(CK_ULONG, CK_ULONG, unsigned char *, CK_ULONG);
static CK_RV (*C_Logout)(CK_ULONG);
static CK_RV (*C_GenerateRandom)(CK_ULONG, unsigned char *, CK_ULONG);

static CK_ULONG slot, session;
static int calls, alone;
static const char *fifo;

static void must(CK_RV rv, CK_RV wanted, const char *what)
{
    if (rv != wanted && !alone) {
        fprintf(stderr, "%s: %#lx\n", what, rv);
        _exit(2);
    }
    calls++;
}

static void open_session(void)
{
    must(C_OpenSession(slot, 4, NULL, NULL, &session), CKR_OK, "C_OpenSession");
}

static void random_bytes(const char *when)
{
    unsigned char bytes[16];
    must(C_GenerateRandom(session, bytes, sizeof bytes), CKR_OK, when);
}

/* Registered after the module was loaded: the first of all. */
static void early(void)
{
    if (fifo) {
        puts("waiting");
        fflush(stdout);
        FILE *file = fopen(fifo, "r");
        if (!file || fgetc(file) != EOF)
            _exit(8);
        alone = 1;
    }
    random_bytes("C_GenerateRandom in the first handler");
    must(C_CloseAllSessions(slot), CKR_OK, "C_CloseAllSessions in the first handler");
    open_session();
}

/* Registered before the module was loaded: the module's own handlers, if it has any, have run. */
static void late(void)
{
    random_bytes("C_GenerateRandom in the last handler");
    must(C_CloseSession(session), CKR_OK, "C_CloseSession in the last handler");
    must(C_CloseSession(session), CKR_SESSION_HANDLE_INVALID, "C_CloseSession again");
    must(C_CloseAllSessions(slot), CKR_OK, "C_CloseAllSessions in the last handler");
}

__attribute__((destructor)) static void last(void)
{
    must(C_Finalize(NULL), CKR_OK, "C_Finalize in a destructor");
    must(C_CloseAllSessions(slot), CKR_CRYPTOKI_NOT_INITIALIZED, "C_CloseAllSessions after C_Finalize");
    must(C_Finalize(NULL), CKR_CRYPTOKI_NOT_INITIALIZED, "C_Finalize again");
    /* Whoever only counts successes would miss handlers that have not run. */
    if (calls != 16)
        _exit(3);
}

static pthread_key_t key;

static void of_thread(void *value)
{
    (void)value;
    random_bytes("C_GenerateRandom at the end of a thread");
}

static void *thread(void *value)
{
    /* Before the module makes values of its own for this thread. */
    pthread_setspecific(key, value);
    random_bytes("C_GenerateRandom in a thread");
    return NULL;
}

int main(int argc, char **argv)
{
    CK_ULONG count = 1;
    pthread_t other;
    if (argc != 3 && argc != 4)
        _exit(4);
    fifo = argv[3];
    atexit(late);
    void *handle = dlopen(argv[1], RTLD_NOW);
    if (!handle)
        _exit(5);
#define FIND(name) if (!(*(void **)&name = dlsym(handle, #name))) _exit(6)
    FIND(C_Initialize);
    FIND(C_Finalize);
    FIND(C_GetSlotList);
    FIND(C_OpenSession);
    FIND(C_CloseSession);
    FIND(C_CloseAllSessions);
    FIND(C_Login);
    FIND(C_Logout);
    FIND(C_GenerateRandom);
    must(C_Initialize(NULL), CKR_OK, "C_Initialize");
    must(C_GetSlotList(1, &slot, &count), CKR_OK, "C_GetSlotList");
    open_session();
    must(C_Login(session, 1, (unsigned char *)argv[2], strlen(argv[2])), CKR_OK, "C_Login");
    if (pthread_key_create(&key, of_thread) || pthread_create(&other, NULL, thread, &key) || pthread_join(other, NULL))
        _exit(7);
    atexit(early);
    return 0;
}
