/* A PC/SC application.
 * client list
 * client watch             a line for each change: READER present|empty EVENTS
 * client talk READER       commands from stdin: connect, reconnect, disconnect, status, attribute TAG, apdu HEX
 * client bench READER N    median times of SCardStatus and SCardTransmit, alternating, in nanoseconds */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <winscard.h>
#include <reader.h>

static SCARDCONTEXT context;
static SCARDHANDLE card;

static void must(LONG code, const char *what)
{
	if (code != SCARD_S_SUCCESS) {
		fprintf(stderr, "%s: %08lx\n", what, (unsigned long)(code & 0xFFFFFFFF));
		exit(1);
	}
}

static void say(LONG code, const unsigned char *bytes, DWORD length)
{
	printf("%08lx ", (unsigned long)(code & 0xFFFFFFFF));
	for (DWORD i = 0; i < length; i++)
		printf("%02x", bytes[i]);
	printf("\n");
	fflush(stdout);
}

static char names[16 * 130];

static int readers(void)
{
	DWORD length = sizeof names;
	int count = 0;
	must(SCardListReaders(context, NULL, names, &length), "list");
	for (char *name = names; *name; name += strlen(name) + 1)
		count++;
	return count;
}

static void watch(void)
{
	SCARD_READERSTATE states[16];
	int count = readers();
	char *name = names;

	memset(states, 0, sizeof states);
	for (int i = 0; i < count; i++, name += strlen(name) + 1)
		states[i].szReader = name;
	for (;;) {
		must(SCardGetStatusChange(context, INFINITE, states, count), "watch");
		for (int i = 0; i < count; i++) {
			DWORD event = states[i].dwEventState;
			if (event & SCARD_STATE_CHANGED)
				printf("%s %s %lu\n", states[i].szReader,
				       event & SCARD_STATE_PRESENT ? "present" : "empty",
				       (unsigned long)event >> 16);
			states[i].dwCurrentState = event & ~SCARD_STATE_CHANGED;
		}
		fflush(stdout);
	}
}

static LONG connect_to(const char *reader)
{
	DWORD protocol;
	return SCardConnect(context, reader, SCARD_SHARE_SHARED,
			    SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &card, &protocol);
}

static LONG transmit(const unsigned char *apdu, DWORD length, unsigned char *response, DWORD *room)
{
	return SCardTransmit(card, SCARD_PCI_T1, apdu, length, NULL, response, room);
}

static LONG status(void)
{
	char reader[200];
	unsigned char atr[33];
	DWORD reader_length = sizeof reader, atr_length = sizeof atr, state, protocol;
	return SCardStatus(card, reader, &reader_length, &state, &protocol, atr, &atr_length);
}

static void talk(const char *reader)
{
	static char line[140000];
	static unsigned char apdu[70000], response[65538];

	while (fgets(line, sizeof line, stdin)) {
		DWORD length = 0, protocol;
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "connect")) {
			say(connect_to(reader), NULL, 0);
		} else if (!strcmp(line, "reconnect")) {
			say(SCardReconnect(card, SCARD_SHARE_SHARED,
					   SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1,
					   SCARD_RESET_CARD, &protocol), NULL, 0);
		} else if (!strcmp(line, "disconnect")) {
			say(SCardDisconnect(card, SCARD_LEAVE_CARD), NULL, 0);
		} else if (!strcmp(line, "status")) {
			say(status(), NULL, 0);
		} else if (!strncmp(line, "attribute ", 10)) {
			length = 256;
			LONG code = SCardGetAttrib(card, strtoul(line + 10, NULL, 16), response, &length);
			say(code, response, code == SCARD_S_SUCCESS ? length : 0);
		} else if (!strncmp(line, "apdu ", 5)) {
			unsigned byte;
			DWORD room = sizeof response;
			for (char *digits = line + 5; sscanf(digits, "%2x", &byte) == 1; digits += 2)
				apdu[length++] = byte;
			LONG code = transmit(apdu, length, response, &room);
			say(code, response, code == SCARD_S_SUCCESS ? room : 0);
		} else {
			exit(2);
		}
	}
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static int compare(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

static void bench(const char *reader, int count)
{
	static const unsigned char apdu[] = { 0x80, 0x21, 0, 0 };
	unsigned char response[258];
	double *statuses = calloc(count, sizeof *statuses);
	double *transmits = calloc(count, sizeof *transmits);

	must(connect_to(reader), "connect");
	for (int i = 0; i < count; i++) {
		DWORD room = sizeof response;
		double start = now();
		must(status(), "status");
		double middle = now();
		must(transmit(apdu, sizeof apdu, response, &room), "transmit");
		transmits[i] = now() - middle;
		statuses[i] = middle - start;
	}
	qsort(statuses, count, sizeof *statuses, compare);
	qsort(transmits, count, sizeof *transmits, compare);
	printf("%.0f %.0f\n", statuses[count / 2], transmits[count / 2]);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	must(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context), "context");
	if (!strcmp(argv[1], "list")) {
		readers();
		for (char *name = names; *name; name += strlen(name) + 1)
			puts(name);
	} else if (!strcmp(argv[1], "watch")) {
		watch();
	} else if (!strcmp(argv[1], "talk") && argc == 3) {
		talk(argv[2]);
	} else if (!strcmp(argv[1], "bench") && argc == 4) {
		bench(argv[2], atoi(argv[3]));
	} else {
		return 2;
	}
	return 0;
}
