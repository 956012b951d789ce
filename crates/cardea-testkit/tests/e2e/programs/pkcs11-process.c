/* A program that loads the PKCS#11 module and does to its own process what programs do: closes all descriptors and
 * uses their numbers again, forks into another PID namespace, runs with rights of its file's owner, keeps the numbers
 * of slots over a fork while a card is destroyed.
 *
 *   pkcs11-process MODULE PIN descriptors|namespace|slots
 *   pkcs11-process MODULE PIN ended COMMAND
 *   pkcs11-process MODULE PIN keep LABEL OTHER COMMAND */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long ulong_t;

#define FUNCTIONS(X) \
    X(C_Initialize, (void *)) X(C_Finalize, (void *)) X(C_GetSlotList, (unsigned char, ulong_t *, ulong_t *)) \
    X(C_GetTokenInfo, (ulong_t, void *)) X(C_GetSessionInfo, (ulong_t, ulong_t *)) X(C_Logout, (ulong_t)) \
    X(C_FindObjectsInit, (ulong_t, void *, ulong_t)) X(C_FindObjects, (ulong_t, ulong_t *, ulong_t, ulong_t *)) \
    X(C_GetAttributeValue, (ulong_t, ulong_t, void *, ulong_t)) \
    X(C_SignInit, (ulong_t, void *, ulong_t)) \
    X(C_Sign, (ulong_t, const unsigned char *, ulong_t, unsigned char *, ulong_t *)) \
    X(C_OpenSession, (ulong_t, ulong_t, void *, void *, ulong_t *)) \
    X(C_Login, (ulong_t, ulong_t, const char *, ulong_t)) \
    X(C_GenerateRandom, (ulong_t, unsigned char *, ulong_t))
#define DECLARE(name, arguments) static ulong_t (*name) arguments;
FUNCTIONS(DECLARE)

static ulong_t first_session(void) {
    ulong_t slots[8], count = 8, session = 0;
    if (C_GetSlotList(1, slots, &count) || !count || C_OpenSession(slots[0], 4, NULL, NULL, &session)) {
        fprintf(stderr, "no session\n");
        exit(2);
    }
    return session;
}

/* What arrives at either end of the program's own connection, which has the numbers of all that were open. */
static int descriptors(const char *pin) {
    ulong_t session = first_session();
    closefrom(3);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return 2;
    for (int number = 5; number < 12; number++)
        dup2(ends[number & 1], number);
    ulong_t login = C_Login(session, 1, pin, strlen(pin));
    char bytes[4096];
    for (int end = 0; end < 2; end++) {
        ssize_t count = recv(ends[end], bytes, sizeof bytes, MSG_DONTWAIT);
        if (count >= 0) {
            printf("%zd bytes at descriptor %d\n", count, ends[end]);
            return 1;
        }
    }
    struct stat stat;
    for (int number = 3; number < 12; number++)
        if (fstat(number, &stat) || !S_ISSOCK(stat.st_mode)) {
            printf("descriptor %d was closed\n", number);
            return 1;
        }
    printf("login 0x%lX\n", login);
    return 0;
}

/* A child with its parent's process id: the login is the parent's. */
static int namespace(const char *pin) {
    ulong_t session = first_session();
    printf("login 0x%lX\n", C_Login(session, 1, pin, strlen(pin)));
    if (unshare(CLONE_NEWPID))
        return 2;
    fflush(stdout);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        unsigned char byte;
        printf("same %d\n", getpid() == parent);
        printf("child 0x%lX\n", C_GenerateRandom(session, &byte, 1));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    unsigned char byte;
    printf("parent 0x%lX\n", C_GenerateRandom(session, &byte, 1));
    return 0;
}

/* CK_TOKEN_INFO begins with the label, which is padded with blanks. */
static ulong_t label_of(ulong_t slot, char label[33]) {
    char info[512];
    ulong_t answer = C_GetTokenInfo(slot, info);
    memset(label, 0, 33);
    if (!answer) {
        memcpy(label, info, 32);
        for (int last = 31; last >= 0 && label[last] == ' '; last--)
            label[last] = 0;
    }
    return answer;
}

struct attribute {
    ulong_t type;
    void *value;
    ulong_t length;
};

static ulong_t sign(ulong_t session, ulong_t key) {
    struct attribute ecdsa_sha256 = {0x1044, NULL, 0};
    unsigned char signature[256];
    ulong_t length = sizeof signature;
    ulong_t answer = C_SignInit(session, &ecdsa_sha256, key);
    return answer ? answer : C_Sign(session, (const unsigned char *)"x", 1, signature, &length);
}

/* Whether the session is one of a user. */
static int is_of_user(ulong_t session) {
    ulong_t info[4];
    return !C_GetSessionInfo(session, info) && (info[1] == 1 || info[1] == 3);
}

static void twice(const char *when, ulong_t session, ulong_t key) {
    for (int time = 0; time < 2; time++) {
        unsigned char label[64];
        struct attribute wanted = {3, label, sizeof label};
        ulong_t signing = sign(session, key), reading = C_GetAttributeValue(session, key, &wanted, 1);
        printf("%s: sign 0x%lX, attribute 0x%lX, user %d\n", when, signing, reading, is_of_user(session));
    }
}

/* The command ends all logins of the card. */
static int ended(const char *pin, const char *command) {
    ulong_t session = first_session(), key = 0, count = 0, private = 3;
    struct attribute class = {0, &private, sizeof private};
    if (C_Login(session, 1, pin, strlen(pin)) || C_FindObjectsInit(session, &class, 1) ||
        C_FindObjects(session, &key, 1, &count) || count != 1)
        return 2;
    twice("first", session, key);
    if (system(command) || sign(session, key) != 0x101)
        return 2;
    twice("ended", session, key);
    printf("login 0x%lX\n", C_Login(session, 1, pin, strlen(pin)));
    twice("again", session, key);
    /* The session's state is asked for, and no key is used. */
    if (system(command))
        return 2;
    printf("user %d\n", is_of_user(session));
    printf("login 0x%lX\n", C_Login(session, 1, pin, strlen(pin)));
    /* The program logs in and asks for nothing. */
    printf("login 0x%lX\n", C_Login(session, 1, pin, strlen(pin)));
    if (system(command))
        return 2;
    printf("login 0x%lX\n", C_Login(session, 1, pin, strlen(pin)));
    twice("again", session, key);
    printf("logout 0x%lX\n", C_Logout(session));
    twice("logged out", session, key);
    printf("login 0x%lX\n", C_Login(session, 1, pin, strlen(pin)));
    twice("again", session, key);
    return 0;
}

static int slots(void) {
    ulong_t list[32], count = 32;
    ulong_t answer = C_GetSlotList(1, list, &count);
    printf("as %d: 0x%lX, %lu slots\n", geteuid(), answer, count);
    for (ulong_t i = 0; !answer && i < count; i++) {
        char label[33];
        label_of(list[i], label);
        printf("%s is in slot %lu\n", label, list[i]);
    }
    return 0;
}

static ulong_t slot_of(const char *wanted) {
    ulong_t list[32], count = 32;
    if (C_GetSlotList(1, list, &count))
        exit(2);
    for (ulong_t i = 0; i < count; i++) {
        char label[33];
        if (!label_of(list[i], label) && !strcmp(label, wanted))
            return list[i];
    }
    fprintf(stderr, "no token %s\n", wanted);
    exit(2);
}

/* What a process finds under the numbers that it has kept. It lists no slots, as programs that have a number do. */
static void kept(const char *process, ulong_t slot, ulong_t other, const char *pin) {
    char label[33];
    ulong_t session = 0, never = slot == 77 ? 78 : 77;
    label_of(slot, label);
    printf("%s: token %s", process, label);
    ulong_t opened = C_OpenSession(slot, 4, NULL, NULL, &session);
    printf(", open 0x%lX", opened);
    if (!opened)
        printf(", login 0x%lX", C_Login(session, 1, pin, strlen(pin)));
    printf(", other 0x%lX", C_OpenSession(other, 4, NULL, NULL, &session));
    printf(", never 0x%lX\n", C_OpenSession(never, 4, NULL, NULL, &session));
    fflush(stdout);
}

/* As libp11 does in the workers of a web server: the slots' numbers are kept over fork and C_Initialize. */
static int keep(const char *pin, char **arguments) {
    ulong_t slot = slot_of(arguments[0]), other = slot_of(arguments[1]);
    if (system(arguments[2]))
        return 2;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (C_Initialize(NULL))
            _exit(2);
        kept("child", slot, other, pin);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    if (C_Finalize(NULL) || C_Initialize(NULL))
        return 2;
    kept("again", slot, other, pin);
    return 0;
}

int main(int count, char **arguments) {
    if (count < 4)
        return 2;
    void *handle = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
#define FIND(name, types) *(void **)&name = dlsym(handle, #name); if (!name) return 2;
    FUNCTIONS(FIND)
    if (C_Initialize(NULL))
        return 2;
    if (!strcmp(arguments[3], "descriptors"))
        return descriptors(arguments[2]);
    if (!strcmp(arguments[3], "namespace"))
        return namespace(arguments[2]);
    if (!strcmp(arguments[3], "ended") && count == 5)
        return ended(arguments[2], arguments[4]);
    if (!strcmp(arguments[3], "keep") && count == 7)
        return keep(arguments[2], arguments + 4);
    return slots();
}
