/* A program that loads the PKCS#11 module and gives it no rest: threads that sign, children made by fork in the
 * middle of it, and a daemon that comes and goes. It knows the module by its functions' names alone.
 *
 *   pkcs11-stress MODULE PIN THREADS SECONDS FORKS FOLDER
 *
 * Each thread writes digest and signature of what it signed to FOLDER/PID-THREAD. Return values that tell of a
 * daemon that went away are fine, every other one is reported, as is a call that takes longer than ten seconds. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;
typedef struct { ulong_t mechanism; void *parameter; ulong_t length; } mechanism_t;
typedef struct { void *create, *destroy, *lock, *unlock; ulong_t flags; void *reserved; } initialize_t;

enum {
    OK = 0, DEVICE_ERROR = 0x30, DEVICE_REMOVED = 0x32, KEY_HANDLE_INVALID = 0x60,
    OBJECT_HANDLE_INVALID = 0x82, OPERATION_NOT_INITIALIZED = 0x91, SESSION_HANDLE_INVALID = 0xB3,
    SLOT_ID_INVALID = 0x03, TOKEN_NOT_PRESENT = 0xE0, ALREADY_LOGGED_IN = 0x100, NOT_LOGGED_IN = 0x101,
    NOT_INITIALIZED = 0x190, ALREADY_INITIALIZED = 0x191,
};

#define FUNCTIONS(X) \
    X(C_Initialize, (void *)) X(C_Finalize, (void *)) \
    X(C_GetSlotList, (unsigned char, ulong_t *, ulong_t *)) \
    X(C_OpenSession, (ulong_t, ulong_t, void *, void *, ulong_t *)) X(C_CloseSession, (ulong_t)) \
    X(C_Login, (ulong_t, ulong_t, const char *, ulong_t)) \
    X(C_FindObjectsInit, (ulong_t, attribute_t *, ulong_t)) \
    X(C_FindObjects, (ulong_t, ulong_t *, ulong_t, ulong_t *)) X(C_FindObjectsFinal, (ulong_t)) \
    X(C_SignInit, (ulong_t, mechanism_t *, ulong_t)) \
    X(C_Sign, (ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *)) \
    X(C_GenerateRandom, (ulong_t, unsigned char *, ulong_t))
#define DECLARE(name, arguments) static ulong_t (*name) arguments;
FUNCTIONS(DECLARE)

static const char *module, *pin, *folder;
static int forks;
static double deadline;
static int failed;
static long signatures, away;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void complain(const char *what, ulong_t value) {
    fprintf(stderr, "%d: %s: 0x%lX\n", (int)getpid(), what, value);
    __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
}

/* Whether the call succeeded; what a vanished daemon explains is no complaint. */
static int fine(const char *what, double begin, ulong_t value) {
    if (now() - begin > 10)
        complain("took more than ten seconds", (ulong_t)((now() - begin) * 1000));
    switch (value) {
    case OK:
        return 1;
    case DEVICE_ERROR: case DEVICE_REMOVED: case KEY_HANDLE_INVALID: case OBJECT_HANDLE_INVALID:
    case SESSION_HANDLE_INVALID: case SLOT_ID_INVALID: case TOKEN_NOT_PRESENT: case NOT_LOGGED_IN:
        __atomic_fetch_add(&away, 1, __ATOMIC_RELAXED);
        return 0;
    default:
        complain(what, value);
        return 0;
    }
}

#define CALL(name, ...) ({ double begin_ = now(); fine(#name, begin_, name(__VA_ARGS__)); })

static void *load(void) {
    void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
#define FIND(name, arguments) *(void **)&name = dlsym(handle, #name); if (!name) exit(2);
    FUNCTIONS(FIND)
    return handle;
}

static int begin(void) {
    initialize_t arguments = { .flags = 2 };
    return C_Initialize(&arguments) == OK;
}

/* A session in which the key can be used; 0 = not now. */
static ulong_t attach(ulong_t *key) {
    ulong_t slots[8], count = 0, session = 0, found = 0, class = 3, type = 3;
    attribute_t template[] = { { 0, &class, sizeof class }, { 0x100, &type, sizeof type } };
    if (!CALL(C_GetSlotList, 1, NULL, &count))
        return 0;
    count = 8;
    if (!CALL(C_GetSlotList, 1, slots, &count) || count == 0)
        return 0;
    if (!CALL(C_OpenSession, slots[0], 4, NULL, NULL, &session))
        return 0;
    double start = now();
    ulong_t login = C_Login(session, 1, pin, strlen(pin));
    if (login != ALREADY_LOGGED_IN && !fine("C_Login", start, login))
        goto none;
    if (!CALL(C_FindObjectsInit, session, template, 2))
        goto none;
    count = 0;
    if (CALL(C_FindObjects, session, &found, 1, &count) && count == 1) {
        C_FindObjectsFinal(session);
        *key = found;
        return session;
    }
    C_FindObjectsFinal(session);
none:
    C_CloseSession(session);
    return 0;
}

/* One signature, kept for whoever checks it. */
static int sign(ulong_t session, ulong_t key, FILE *out) {
    unsigned char digest[32], signature[128];
    ulong_t length = sizeof signature;
    mechanism_t ecdsa = { 0x1041, NULL, 0 };
    if (!CALL(C_GenerateRandom, session, digest, sizeof digest))
        return 0;
    if (!CALL(C_SignInit, session, &ecdsa, key) || !CALL(C_Sign, session, digest, sizeof digest, signature, &length))
        return 0;
    if (length != 64) {
        complain("length of a signature", length);
        return 0;
    }
    fwrite(digest, 1, sizeof digest, out);
    fwrite(signature, 1, 64, out);
    fflush(out);
    __atomic_fetch_add(&signatures, 1, __ATOMIC_RELAXED);
    return 1;
}

static FILE *file_of(long thread) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%d-%ld", folder, (int)getpid(), thread);
    return fopen(path, "ab");
}

/* What a child finds: a module that it has to initialise itself, and no login but its own. */
static int child(void) {
    ulong_t count, key, session;
    failed = 0;
    if (C_GetSlotList(1, NULL, &count) != NOT_INITIALIZED)
        complain("C_GetSlotList in a child", 0);
    if (!begin())
        complain("C_Initialize in a child", 0);
    FILE *out = file_of(99);
    session = attach(&key);
    if (session) {
        sign(session, key, out);
        C_CloseSession(session);
    }
    fclose(out);
    ulong_t end = C_Finalize(NULL);
    if (end != OK)
        complain("C_Finalize in a child", end);
    return failed;
}

static void try_child(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(child());
    double limit = now() + 60;
    for (;;) {
        int status;
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid) {
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                complain("a child ended with", (ulong_t)status);
            return;
        }
        if (now() > limit) {
            complain("a child hangs", (ulong_t)pid);
            return;
        }
        usleep(2000);
    }
}

static void *work(void *argument) {
    long thread = (long)argument;
    ulong_t key = 0, session = 0;
    FILE *out = file_of(thread);
    double next_fork = now() + 0.5 + 0.1 * thread;
    while (now() < deadline && !__atomic_load_n(&failed, __ATOMIC_RELAXED)) {
        if (!session)
            session = attach(&key);
        if (session && !sign(session, key, out)) {
            C_CloseSession(session);
            session = 0;
        }
        if (!session)
            usleep(5000);
        if (forks && thread < 2 && now() > next_fork) {
            try_child();
            next_fork = now() + 1;
        }
    }
    if (session)
        C_CloseSession(session);
    fclose(out);
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 7)
        return 2;
    module = arguments[1];
    pin = arguments[2];
    long threads = atol(arguments[3]);
    double seconds = atof(arguments[4]);
    forks = atoi(arguments[5]);
    folder = arguments[6];

    void *handle = load();
    if (!begin() || C_Initialize(NULL) != ALREADY_INITIALIZED)
        complain("C_Initialize", 0);
    deadline = now() + seconds;
    pthread_t ids[64];
    for (long thread = 0; thread < threads; thread++)
        pthread_create(&ids[thread], NULL, work, (void *)thread);
    for (long thread = 0; thread < threads; thread++)
        pthread_join(ids[thread], NULL);
    if (C_Finalize(NULL) != OK || C_Finalize(NULL) != NOT_INITIALIZED)
        complain("C_Finalize", 0);
    dlclose(handle);
    handle = load();
    if (!begin() || C_Finalize(NULL) != OK)
        complain("loaded again", 0);
    dlclose(handle);
    printf("%ld signatures, %ld times away\n", signatures, away);
    return failed;
}
