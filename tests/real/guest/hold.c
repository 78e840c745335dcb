/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What busybox cannot do inside the guest: keep huge pages and DAX pages in use,
 * and compress /proc/kpageflags.
 *
 *   hold file PATH COUNT        map COUNT 2M pages of a hugetlbfs file
 *   hold anon COUNT             map COUNT anonymous 2M hugetlb pages
 *   hold dax PATH ALIGN COUNT   map COUNT units of ALIGN bytes of a device DAX
 *   hold kpageflags             print runs of pages of one class
 *
 * The first three print "VA PFN" of each 2M step, then "done", and stay alive. At
 * SIGUSR1 they print again from the start of the file: pages may have moved.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEP (2UL << 20)
#define PFN_MASK ((1ULL << 55) - 1)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned long pfn_of(int pagemap, const void *va)
{
	uint64_t entry;
	off_t at = (uintptr_t)va / 4096 * sizeof(entry);

	if (pread(pagemap, &entry, sizeof(entry), at) != sizeof(entry))
		die("pagemap");
	return entry & PFN_MASK;
}

static void hold(int fd, int flags, size_t size)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	sigset_t again;
	int caught;

	if (pagemap < 0)
		die("pagemap");
	if (base == MAP_FAILED)
		die("mmap");
	sigemptyset(&again);
	sigaddset(&again, SIGUSR1);
	sigprocmask(SIG_BLOCK, &again, NULL);
	for (;;) {
		for (size_t at = 0; at < size; at += STEP) {
			base[at] = 1;
			printf("%#lx %#lx\n", (unsigned long)(base + at),
			       pfn_of(pagemap, base + at));
		}
		printf("done\n");
		fflush(stdout);
		sigwait(&again, &caught);
		rewind(stdout);
	}
}

enum { HEAD = 15, TAIL = 16, HUGE = 17, NOPAGE = 20, RESERVED = 32 };

static const char *class_of(uint64_t flags)
{
#define SET(bit) (flags >> (bit) & 1)
	if (SET(NOPAGE))
		return "nopage";
	if (SET(HUGE))
		return SET(HEAD) ? "huge-head" : SET(TAIL) ? "huge-tail" : "huge";
	if (SET(RESERVED))
		return "reserved";
	return flags ? "other" : "zero";
}

static void kpageflags(void)
{
	static uint64_t flags[65536];
	const char *run = NULL;
	unsigned long pfn = 0, start = 0;
	int fd = open("/proc/kpageflags", O_RDONLY);
	ssize_t got;

	if (fd < 0)
		die("kpageflags");
	while ((got = read(fd, flags, sizeof(flags))) > 0) {
		for (size_t i = 0; i < got / sizeof(*flags); i++, pfn++) {
			const char *now = class_of(flags[i]);

			if (run && !strcmp(now, run) && strcmp(now, "huge-head"))
				continue;
			if (run)
				printf("%#lx %lu %s\n", start, pfn - start, run);
			run = now;
			start = pfn;
		}
	}
	if (run)
		printf("%#lx %lu %s\n", start, pfn - start, run);
}

int main(int argc, char **argv)
{
	int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	int fd;

	if (argc == 2 && !strcmp(argv[1], "kpageflags")) {
		kpageflags();
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "anon"))
		hold(-1, anonymous, atol(argv[2]) * STEP);
	if (argc == 4 && !strcmp(argv[1], "file")) {
		fd = open(argv[2], O_RDWR | O_CREAT, 0600);
		if (fd < 0)
			die(argv[2]);
		hold(fd, MAP_SHARED, atol(argv[3]) * STEP);
	}
	if (argc == 5 && !strcmp(argv[1], "dax")) {
		fd = open(argv[2], O_RDWR);
		if (fd < 0)
			die(argv[2]);
		hold(fd, MAP_SHARED, atol(argv[3]) * atol(argv[4]));
	}
	fprintf(stderr, "hold: bad arguments\n");
	return 2;
}
