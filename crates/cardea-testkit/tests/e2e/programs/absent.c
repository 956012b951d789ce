/* A name service that is installed and has nobody to ask, as libnss-sss is without sssd: it ends with ERROR. */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <sys/types.h>

static enum nss_status absent(int *error) {
	*error = ERROR;
	return NSS_STATUS_UNAVAIL;
}

enum nss_status _nss_absent_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, int *error) {
	(void)name, (void)entry, (void)buffer, (void)size;
	return absent(error);
}

enum nss_status _nss_absent_getpwuid_r(uid_t id, struct passwd *entry, char *buffer, size_t size, int *error) {
	(void)id, (void)entry, (void)buffer, (void)size;
	return absent(error);
}

enum nss_status _nss_absent_getgrnam_r(const char *name, struct group *entry, char *buffer, size_t size, int *error) {
	(void)name, (void)entry, (void)buffer, (void)size;
	return absent(error);
}

enum nss_status _nss_absent_getgrgid_r(gid_t id, struct group *entry, char *buffer, size_t size, int *error) {
	(void)id, (void)entry, (void)buffer, (void)size;
	return absent(error);
}

enum nss_status _nss_absent_initgroups_dyn(const char *name, gid_t group, long *start, long *size, gid_t **groups,
					   long limit, int *error) {
	(void)name, (void)group, (void)start, (void)size, (void)groups, (void)limit;
	return absent(error);
}
