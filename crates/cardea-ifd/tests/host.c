/* A program that loads the handler as pcscd does, and as pcscd does not.
 * host LIBRARY DEVICENAME pointers|threads|fork|unload|death */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <wintypes.h>
#include <ifdhandler.h>
#include <reader.h>

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,   \
				#condition);                                 \
			exit(1);                                             \
		}                                                            \
	} while (0)

#define IS(expression, wanted)                                               \
	do {                                                                 \
		long is_ = (long)(expression);                               \
		if (is_ != (long)(wanted)) {                                 \
			fprintf(stderr, "%s:%d: %s is %ld, not %ld\n",       \
				__FILE__, __LINE__, #expression, is_,        \
				(long)(wanted));                             \
			exit(1);                                             \
		}                                                            \
	} while (0)

static __typeof__(IFDHCreateChannelByName) *create_by_name;
static __typeof__(IFDHCreateChannel) *create_channel;
static __typeof__(IFDHCloseChannel) *close_channel;
static __typeof__(IFDHGetCapabilities) *get_capabilities;
static __typeof__(IFDHSetCapabilities) *set_capabilities;
static __typeof__(IFDHSetProtocolParameters) *set_protocol;
static __typeof__(IFDHPowerICC) *power;
static __typeof__(IFDHTransmitToICC) *transmit_to_icc;
static __typeof__(IFDHICCPresence) *presence;
static __typeof__(IFDHControl) *control;

static RESPONSECODE (*wait_for)(DWORD, int);
static RESPONSECODE (*stop)(DWORD);

static const char *library, *device;

static void *load(void)
{
	void *handle = dlopen(library, RTLD_LAZY);
	if (!handle)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(handle);
#define FIND(variable, name)                                                 \
	do {                                                                 \
		*(void **)&variable = dlsym(handle, name);                   \
		CHECK(variable);                                             \
	} while (0)
	FIND(create_by_name, "IFDHCreateChannelByName");
	FIND(create_channel, "IFDHCreateChannel");
	FIND(close_channel, "IFDHCloseChannel");
	FIND(get_capabilities, "IFDHGetCapabilities");
	FIND(set_capabilities, "IFDHSetCapabilities");
	FIND(set_protocol, "IFDHSetProtocolParameters");
	FIND(power, "IFDHPowerICC");
	FIND(transmit_to_icc, "IFDHTransmitToICC");
	FIND(presence, "IFDHICCPresence");
	FIND(control, "IFDHControl");
	return handle;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void open_slot(DWORD lun)
{
	DWORD length = sizeof wait_for;
	IS(create_by_name(lun, (LPSTR)device), IFD_SUCCESS);
	IS(get_capabilities(lun, TAG_IFD_POLLING_THREAD_WITH_TIMEOUT, &length,
			    (UCHAR *)&wait_for),
	   IFD_SUCCESS);
	IS(length, sizeof wait_for);
	IS(get_capabilities(lun, TAG_IFD_STOP_POLLING_THREAD, &length,
			    (UCHAR *)&stop),
	   IFD_SUCCESS);
	IS(length, sizeof stop);
}

static RESPONSECODE power_up(DWORD lun)
{
	UCHAR atr[MAX_ATR_SIZE];
	DWORD length = sizeof atr;
	return power(lun, IFD_POWER_UP, atr, &length);
}

/* Waits as pcscd's polling thread does, until the card is there or not. */
static void await_presence(DWORD lun, RESPONSECODE wanted)
{
	double end = now() + 30;
	while (presence(lun) != wanted) {
		CHECK(now() < end);
		IS(wait_for(lun, 1000), IFD_SUCCESS);
	}
}

/* Asks again and again, as a host without polling thread; a busy machine may need more than one question. */
static void ask_presence(DWORD lun, RESPONSECODE wanted)
{
	double end = now() + 30;
	while (presence(lun) != wanted)
		CHECK(now() < end);
}

static RESPONSECODE transmit(DWORD lun, const UCHAR *apdu, DWORD apdu_length,
			     UCHAR *response, DWORD *response_length)
{
	SCARD_IO_HEADER send = { 1, sizeof send }, receive = send;
	return transmit_to_icc(lun, send, (PUCHAR)apdu, apdu_length, response,
			       response_length, &receive);
}

/* The status word, or minus the response code. */
static long status(DWORD lun, UCHAR ins, UCHAR p1, UCHAR p2)
{
	UCHAR apdu[] = { 0x80, ins, p1, p2 };
	static _Thread_local UCHAR response[65538];
	DWORD length = sizeof response;
	RESPONSECODE code = transmit(lun, apdu, sizeof apdu, response, &length);
	if (code != IFD_SUCCESS) {
		IS(length, 0);
		return -code;
	}
	CHECK(length >= 2);
	return response[length - 2] << 8 | response[length - 1];
}

static void check_capabilities(void)
{
	static const DWORD bytes[] = { TAG_IFD_THREAD_SAFE,
				       TAG_IFD_SLOT_THREAD_SAFE,
				       TAG_IFD_SLOTS_NUMBER,
				       TAG_IFD_SIMULTANEOUS_ACCESS };
	UCHAR value[64];
	DWORD length;

	for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
		length = 1;
		IS(get_capabilities(0, bytes[i], &length, value), IFD_SUCCESS);
		IS(length, 1);
		CHECK(value[0] >= 1);
		length = 0;
		IS(get_capabilities(0, bytes[i], &length, value),
		   IFD_ERROR_INSUFFICIENT_BUFFER);
		IS(length, 0);
		IS(set_capabilities(0, bytes[i], 1, value),
		   IFD_ERROR_VALUE_READ_ONLY);
	}
	length = 1;
	IS(get_capabilities(0, TAG_IFD_SLOTS_NUMBER, &length, value),
	   IFD_SUCCESS);
	IS(value[0], 2);
	length = sizeof value;
	IS(get_capabilities(0, SCARD_ATTR_VENDOR_NAME, &length, value),
	   IFD_SUCCESS);
	IS(length, 7);
	CHECK(strcmp((char *)value, "Cardea") == 0);
	static const DWORD unknown[] = { TAG_IFD_POLLING_THREAD_KILLABLE,
					 TAG_IFD_DEVICE_REMOVED, 0,
					 (DWORD)-1 };
	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		length = sizeof value;
		IS(get_capabilities(0, unknown[i], &length, value),
		   IFD_ERROR_TAG);
		IS(length, 0);
		IS(set_capabilities(0, unknown[i], 0, NULL), IFD_ERROR_TAG);
	}
	/* The address of a function does not fit in less than a pointer. */
	length = sizeof(void *) - 1;
	IS(get_capabilities(0, TAG_IFD_POLLING_THREAD_WITH_TIMEOUT, &length,
			    value),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	length = sizeof value;
	IS(get_capabilities(0, TAG_IFD_THREAD_SAFE, &length, NULL),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(get_capabilities(0, TAG_IFD_THREAD_SAFE, NULL, value),
	   IFD_COMMUNICATION_ERROR);
	IS(get_capabilities(7, TAG_IFD_THREAD_SAFE, &length, value),
	   IFD_COMMUNICATION_ERROR);
}

static void check_control(void)
{
	UCHAR list[64];
	DWORD length = 77;
	IS(control(0, CM_IOCTL_GET_FEATURE_REQUEST, NULL, 0, list, sizeof list,
		   &length),
	   IFD_SUCCESS);
	IS(length, sizeof(PCSC_TLV_STRUCTURE));
	PCSC_TLV_STRUCTURE feature;
	memcpy(&feature, list, sizeof feature);
	IS(feature.tag, FEATURE_GET_TLV_PROPERTIES);
	IS(feature.length, 4);
	DWORD code = __builtin_bswap32(feature.value);
	IS(control(0, code, NULL, 0, list, sizeof list, &length), IFD_SUCCESS);
	IS(length, 6);
	IS(list[0], PCSCv2_PART10_PROPERTY_dwMaxAPDUDataSize);
	IS(list[1], 4);
	IS(list[2] | list[3] << 8 | list[4] << 16 | list[5] << 24, 65536);
	IS(control(0, code, NULL, 0, list, 5, &length),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(length, 0);
	IS(control(0, code, NULL, 0, NULL, 64, &length),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(control(0, code, NULL, 5, list, 64, NULL), IFD_COMMUNICATION_ERROR);
	IS(control(0, 1, NULL, 0, list, sizeof list, &length),
	   IFD_ERROR_NOT_SUPPORTED);
	IS(length, 0);
	IS(control(7, code, NULL, 0, list, sizeof list, &length),
	   IFD_COMMUNICATION_ERROR);
}

static void check_power(void)
{
	UCHAR atr[MAX_ATR_SIZE + 1];
	DWORD length = MAX_ATR_SIZE;

	memset(atr, 0x55, sizeof atr);
	IS(power(0, IFD_POWER_UP, atr, &length), IFD_SUCCESS);
	IS(length, 5);
	IS(atr[0], 0x3B);
	IS(atr[5], 0x55);
	length = sizeof atr;
	IS(get_capabilities(0, TAG_IFD_ATR, &length, atr), IFD_SUCCESS);
	IS(length, 5);
	length = 4;
	IS(power(0, IFD_RESET, atr, &length), IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(length, 0);
	length = sizeof atr;
	IS(power(0, IFD_POWER_UP, NULL, &length),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(power(0, IFD_POWER_UP, atr, NULL), IFD_COMMUNICATION_ERROR);
	length = sizeof atr;
	IS(power(0, IFD_POWER_DOWN, atr, &length), IFD_SUCCESS);
	IS(length, 0);
	length = sizeof atr;
	IS(get_capabilities(0, TAG_IFD_ATR, &length, atr), IFD_SUCCESS);
	IS(length, 0);
	length = sizeof atr;
	IS(power(0, 499, atr, &length), IFD_ERROR_NOT_SUPPORTED);
	/* There is no card in the other slot. */
	length = sizeof atr;
	IS(power(1, IFD_POWER_UP, atr, &length), IFD_ERROR_POWER_ACTION);
	IS(length, 0);
	length = sizeof atr;
	IS(power(7, IFD_POWER_UP, atr, &length), IFD_COMMUNICATION_ERROR);
	IS(set_protocol(0, SCARD_PROTOCOL_T1, 0, 0, 0, 0), IFD_SUCCESS);
	IS(set_protocol(0, SCARD_PROTOCOL_T0, 0, 0, 0, 0), IFD_SUCCESS);
	IS(set_protocol(0, SCARD_PROTOCOL_RAW, 0, 0, 0, 0),
	   IFD_PROTOCOL_NOT_SUPPORTED);
	IS(set_protocol(0, SCARD_PROTOCOL_T1, IFD_NEGOTIATE_PTS1, 1, 0, 0),
	   IFD_ERROR_PTS_FAILURE);
	IS(set_protocol(7, SCARD_PROTOCOL_T1, 0, 0, 0, 0),
	   IFD_COMMUNICATION_ERROR);
}

static void check_transmit(void)
{
	static UCHAR command[65544], response[70010];
	UCHAR many[] = { 0x80, 0x01, 0xFF, 0xFE };
	DWORD length;
	SCARD_IO_HEADER header = { 1, 0 };

	IS(power_up(0), IFD_SUCCESS);
	/* The longest response, and not a byte behind it. */
	memset(response, 0x55, sizeof response);
	length = 65536;
	IS(transmit(0, many, sizeof many, response, &length), IFD_SUCCESS);
	IS(length, 65536);
	IS(response[65533], 65533 % 251);
	IS(response[65534], 0x90);
	IS(response[65536], 0x55);
	/* One byte too many. */
	memset(response, 0x55, sizeof response);
	length = 65535;
	IS(transmit(0, many, sizeof many, response, &length),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(length, 0);
	IS(response[0], 0x55);
	UCHAR huge[] = { 0x80, 0x03, 0, 0 };
	length = 65538;
	IS(transmit(0, huge, sizeof huge, response, &length),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(length, 0);
	IS(response[0], 0x55);
	/* The longest command. */
	command[0] = 0x80;
	command[1] = 0x06;
	length = 6;
	IS(transmit(0, command, sizeof command, response, &length),
	   IFD_SUCCESS);
	IS(response[1] << 16 | response[2] << 8 | response[3], 65544);
	/* More than any message takes; the card stays. */
	static UCHAR endless[200000];
	length = sizeof response;
	IS(transmit(0, endless, sizeof endless, response, &length),
	   IFD_COMMUNICATION_ERROR);
	IS(length, 0);
	IS(presence(0), IFD_SUCCESS);
	/* Nothing as a command is one the card refuses. */
	length = sizeof response;
	IS(transmit(0, NULL, 0, response, &length), IFD_SUCCESS);
	IS(response[0], 0x6D);
	length = sizeof response;
	IS(transmit(0, NULL, 5, response, &length), IFD_COMMUNICATION_ERROR);
	length = sizeof response;
	IS(transmit(0, command, (DWORD)-1, response, &length),
	   IFD_COMMUNICATION_ERROR);
	length = (DWORD)-1;
	IS(transmit(0, many, sizeof many, response, &length),
	   IFD_COMMUNICATION_ERROR);
	length = sizeof response;
	IS(transmit(0, many, sizeof many, NULL, &length),
	   IFD_ERROR_INSUFFICIENT_BUFFER);
	IS(length, 0);
	IS(transmit(0, many, sizeof many, response, NULL),
	   IFD_COMMUNICATION_ERROR);
	length = sizeof response;
	IS(transmit_to_icc(0, header, many, sizeof many, response, &length,
			   NULL),
	   IFD_SUCCESS);
	IS(transmit_to_icc(0, header, NULL, 0, NULL, NULL, NULL),
	   IFD_COMMUNICATION_ERROR);
	/* Wrong unit; then a unit without card. */
	length = sizeof response;
	IS(transmit(7, many, sizeof many, response, &length),
	   IFD_COMMUNICATION_ERROR);
	length = sizeof response;
	IS(transmit(1, many, sizeof many, response, &length),
	   IFD_ICC_NOT_PRESENT);
	IS(status(0, 0x21, 0, 0), 0x6982);
}

static void pointers(void)
{
	load();
	IS(create_by_name(0, NULL), IFD_COMMUNICATION_ERROR);
	IS(create_by_name(0, (LPSTR)"relative:4"), IFD_COMMUNICATION_ERROR);
	IS(create_by_name(0, (LPSTR)"/tmp/x:15"), IFD_COMMUNICATION_ERROR);
	IS(create_by_name(14, (LPSTR)device), IFD_COMMUNICATION_ERROR);
	IS(create_by_name(0xFFFF, (LPSTR)device), IFD_COMMUNICATION_ERROR);
	IS(close_channel(0), IFD_COMMUNICATION_ERROR);
	open_slot(0);
	open_slot(1);
	/* Twice is once. */
	open_slot(0);
	/* Without a name the environment tells. */
	IS(create_channel(0x10000, 5), IFD_SUCCESS);
	ask_presence(0, IFD_SUCCESS);
	ask_presence(0x10000, IFD_SUCCESS);
	IS(presence(1), IFD_ICC_NOT_PRESENT);
	check_capabilities();
	check_control();
	check_power();
	check_transmit();
	IS(wait_for(7, 10), IFD_COMMUNICATION_ERROR);
	IS(stop(7), IFD_COMMUNICATION_ERROR);
	IS(wait_for(1, -1), IFD_SUCCESS);
	IS(close_channel(0x10000), IFD_SUCCESS);
	IS(close_channel(1), IFD_SUCCESS);
	IS(close_channel(0), IFD_SUCCESS);
	IS(close_channel(0), IFD_COMMUNICATION_ERROR);
	IS(presence(0), IFD_COMMUNICATION_ERROR);
}

static atomic_int stopping;

static void *poll_slot(void *argument)
{
	DWORD lun = (DWORD)argument;
	while (!stopping) {
		presence(lun);
		IS(wait_for(lun, 600000), IFD_SUCCESS);
	}
	return NULL;
}

static void *use_slot(void *argument)
{
	DWORD lun = (DWORD)argument;
	IS(power_up(lun), IFD_SUCCESS);
	for (int i = 0; i < 300; i++) {
		IS(status(lun, 0x01, i & 3, i & 0xFF), 0x9000);
		if (i % 50 == 0) {
			IS(power(lun, IFD_POWER_DOWN, NULL, &(DWORD){ 0 }),
			   IFD_SUCCESS);
			IS(power_up(lun), IFD_SUCCESS);
		}
		IS(presence(lun), IFD_SUCCESS);
	}
	return NULL;
}

static void run_threads(int slots)
{
	pthread_t polling[14], using[14];
	stopping = 0;
	for (long i = 0; i < slots; i++) {
		open_slot(i);
		ask_presence(i, IFD_SUCCESS);
		CHECK(!pthread_create(&polling[i], NULL, poll_slot, (void *)i));
	}
	for (long i = 0; i < slots; i++)
		CHECK(!pthread_create(&using[i], NULL, use_slot, (void *)i));
	for (int i = 0; i < slots; i++)
		pthread_join(using[i], NULL);
	double start = now();
	stopping = 1;
	for (int i = 0; i < slots; i++)
		IS(stop(i), IFD_SUCCESS);
	for (int i = 0; i < slots; i++)
		pthread_join(polling[i], NULL);
	CHECK(now() - start < 5);
	for (int i = 0; i < slots; i++)
		IS(close_channel(i), IFD_SUCCESS);
}

static void threads(void)
{
	load();
	run_threads(4);
}

static int descriptors(void)
{
	int count = 0;
	for (int i = 0; i < 256; i++)
		count += fcntl(i, F_GETFD) != -1;
	return count;
}

static int is_loaded(void)
{
	char line[4096];
	int found = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	CHECK(maps);
	while (fgets(line, sizeof line, maps))
		found |= strstr(line, "libifdcardea") != NULL;
	fclose(maps);
	return found;
}

static void unload(void)
{
	int before = descriptors();
	for (int i = 0; i < 3; i++) {
		void *handle = load();
		CHECK(is_loaded());
		run_threads(2);
		IS(dlclose(handle), 0);
		CHECK(!is_loaded());
		IS(descriptors(), before);
	}
}

static void *block(void *argument)
{
	return (void *)status((DWORD)argument, 0x02, 0, 0);
}

/* Ends as the child does. */
static void join_child(pid_t child)
{
	int ended;
	double end = now() + 60;
	while (waitpid(child, &ended, WNOHANG) == 0) {
		CHECK(now() < end);
		usleep(1000);
	}
	CHECK(WIFEXITED(ended));
	IS(WEXITSTATUS(ended), 0);
}

static void child_works(void)
{
	for (DWORD lun = 0; lun < 2; lun++) {
		ask_presence(lun, IFD_SUCCESS);
		/* Nothing of the parent's verified state. */
		IS(status(lun, 0x21, 0, 0), -IFD_ICC_NOT_PRESENT);
		IS(power_up(lun), IFD_SUCCESS);
		IS(status(lun, 0x21, 0, 0), 0x6982);
	}
	/* The parent waits in this slot; this does not wake it. */
	IS(stop(1), IFD_SUCCESS);
	IS(wait_for(1, 600000), IFD_SUCCESS);
	IS(close_channel(0), IFD_SUCCESS);
	IS(close_channel(1), IFD_SUCCESS);
	exit(0);
}

/* A daemon-like child: all descriptors closed, the numbers used for something else. */
static void child_reuses_numbers(void)
{
	struct stat before[64], after;
	for (int i = 3; i < 256; i++)
		close(i);
	for (int i = 3; i < 64; i++) {
		int pipes[2];
		CHECK(!pipe(pipes));
		CHECK(!fstat(pipes[0], &before[pipes[0] % 64]));
		if (pipes[1] >= 60)
			break;
		CHECK(!fstat(pipes[1], &before[pipes[1] % 64]));
	}
	IS(power_up(0), IFD_SUCCESS);
	IS(status(0, 0x21, 0, 0), 0x6982);
	IS(close_channel(0), IFD_SUCCESS);
	IS(close_channel(1), IFD_SUCCESS);
	for (int i = 3; i < 60; i++) {
		CHECK(!fstat(i, &after));
		CHECK(after.st_ino == before[i].st_ino);
	}
	exit(0);
}

static void forks(void)
{
	pthread_t blocked, polling;
	void *result;
	pid_t child;

	load();
	open_slot(0);
	open_slot(1);
	ask_presence(0, IFD_SUCCESS);
	ask_presence(1, IFD_SUCCESS);
	IS(power_up(0), IFD_SUCCESS);
	IS(power_up(1), IFD_SUCCESS);
	IS(status(0, 0x20, 0, 0), 0x9000);
	stopping = 0;
	CHECK(!pthread_create(&polling, NULL, poll_slot, (void *)1));
	CHECK(!pthread_create(&blocked, NULL, block, (void *)1));
	for (int i = 0; i < 2; i++) {
		child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			if (i == 0)
				child_works();
			else
				child_reuses_numbers();
		}
		join_child(child);
		/* The parent's connection is untouched. */
		IS(status(0, 0x21, 0, 0), 0x9000);
	}
	/* As is the command that was under way. It may not be there yet when the gate is opened. */
	double end = now() + 30;
	while (pthread_tryjoin_np(blocked, &result)) {
		CHECK(now() < end);
		IS(status(0, 0x05, 0, 0), 0x9000);
	}
	IS((long)result, 0x9000);
	stopping = 1;
	IS(stop(1), IFD_SUCCESS);
	pthread_join(polling, NULL);
	IS(close_channel(0), IFD_SUCCESS);
	IS(close_channel(1), IFD_SUCCESS);
}

static void say(const char *line)
{
	puts(line);
	fflush(stdout);
}

static void hear(void)
{
	char line[80];
	CHECK(fgets(line, sizeof line, stdin));
}

/* The daemon is killed while a command is under way, and comes back. */
static void death(void)
{
	pthread_t blocked;
	void *result;

	load();
	open_slot(0);
	await_presence(0, IFD_SUCCESS);
	for (int round = 0; round < 3; round++) {
		IS(power_up(0), IFD_SUCCESS);
		IS(status(0, 0x20, 0, 0), 0x9000);
		CHECK(!pthread_create(&blocked, NULL, block, (void *)0));
		say("blocked");
		hear();
		double start = now();
		pthread_join(blocked, &result);
		CHECK(now() - start < 5);
		IS((long)result, -IFD_ICC_NOT_PRESENT);
		await_presence(0, IFD_ICC_NOT_PRESENT);
		IS(status(0, 0x21, 0, 0), -IFD_ICC_NOT_PRESENT);
		IS(power_up(0), IFD_ERROR_POWER_ACTION);
		IS(power(0, IFD_POWER_DOWN, NULL, &(DWORD){ 0 }), IFD_SUCCESS);
		say("dead");
		hear();
		await_presence(0, IFD_SUCCESS);
		IS(power_up(0), IFD_SUCCESS);
		IS(status(0, 0x21, 0, 0), 0x6982);
	}
	/* The card kills the daemon. */
	IS(status(0, 0x04, 0, 0), -IFD_ICC_NOT_PRESENT);
	await_presence(0, IFD_ICC_NOT_PRESENT);
	IS(close_channel(0), IFD_SUCCESS);
}

int main(int argc, char **argv)
{
	CHECK(argc == 4);
	library = argv[1];
	device = argv[2];
	if (!strcmp(argv[3], "pointers"))
		pointers();
	else if (!strcmp(argv[3], "threads"))
		threads();
	else if (!strcmp(argv[3], "fork"))
		forks();
	else if (!strcmp(argv[3], "unload"))
		unload();
	else if (!strcmp(argv[3], "death"))
		death();
	else
		return 2;
	return 0;
}
