/*
 * What VFIO costs without JavaScript: vfio GROUP BDF, the group's node and an edu device that is bound to vfio-pci. Opens it as `openEdu` of vfio.mjs does, then answers
 * lines on standard input, each with the nanoseconds that one of N took:
 *   pread N     pread(2) of four bytes of BAR 0
 *   load N      the same by a load from the mapped BAR
 *   map N       VFIO_IOMMU_MAP_DMA and UNMAP_DMA of a page
 *   irq N       the device raises an interrupt, read(2) of its eventfd returns
 *   thread N    the same with another thread that waits by epoll_wait(2), reads the eventfd and wakes this one: how Node must do it
 *   live N      no measurement: N mappings of a page are there from now on
 * Ends with the input; exit status 2 and a line on standard error if something fails.
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ID 0x010000ed
#define RAISE 0x60
#define ACKNOWLEDGE 0x64
#define PAGE 0x1000
#define FIRST 0x100000000ull
#define COMMAND 4
#define MEMORY_AND_MASTER 6

static int container, device, interrupt, woken;
static volatile uint32_t *bar;
static void *ram;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void map(uint64_t iova)
{
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
						.vaddr = (uintptr_t)ram, .iova = iova, .size = PAGE };
	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map) < 0)
		fail("VFIO_IOMMU_MAP_DMA");
}

static void unmap(uint64_t iova)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = PAGE };
	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0 || unmap.size != PAGE)
		fail("VFIO_IOMMU_UNMAP_DMA");
}

static void set_trigger(int fd)
{
	char bytes[sizeof(struct vfio_irq_set) + sizeof(fd)];
	struct vfio_irq_set set = { .argsz = sizeof(bytes), .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				    .index = VFIO_PCI_MSI_IRQ_INDEX, .count = 1 };
	memcpy(bytes, &set, sizeof(set));
	memcpy(bytes + sizeof(set), &fd, sizeof(fd));
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, bytes) != 0)
		fail("VFIO_DEVICE_SET_IRQS");
}

static void take(int fd)
{
	uint64_t count;
	if (read(fd, &count, sizeof(count)) != sizeof(count))
		fail("read of an eventfd");
}

static void *waiter(void *threaded)
{
	int fd = *(int *)threaded, epoll = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN };
	uint64_t one = 1;
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("epoll");
	for (;;) {
		if (epoll_wait(epoll, &event, 1, -1) != 1)
			fail("epoll_wait");
		take(fd);
		if (write(woken, &one, sizeof(one)) != sizeof(one))
			fail("write of an eventfd");
	}
	return NULL;
}

static void raise_and_wait(int count, int fd)
{
	while (count--) {
		bar[RAISE / 4] = 1;
		take(fd);
		bar[ACKNOWLEDGE / 4] = 1;
	}
}

static void open_edu(const char *path, const char *bdf)
{
	struct vfio_region_info region = { .argsz = sizeof(region), .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	uint16_t command = MEMORY_AND_MASTER;
	int group;

	if ((container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC)) < 0 || (group = open(path, O_RDWR | O_CLOEXEC)) < 0)
		fail(path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		fail("VFIO_SET_IOMMU");
	if ((device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf)) < 0)
		fail("VFIO_GROUP_GET_DEVICE_FD");
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) < 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) < 0)
		fail("VFIO_DEVICE_GET_REGION_INFO");
	if (pwrite(device, &command, sizeof(command), config.offset + COMMAND) != sizeof(command))
		fail("pwrite of COMMAND");
	bar = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
	ram = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bar == MAP_FAILED || ram == MAP_FAILED)
		fail("mmap");
}

int main(int argc, char **argv)
{
	int threaded = eventfd(0, EFD_CLOEXEC), started = 0, live = 0, count, index;
	char line[64], what[16];
	pthread_t thread;

	if (argc != 3) {
		fprintf(stderr, "usage: vfio GROUP BDF\n");
		return 2;
	}
	interrupt = eventfd(0, EFD_CLOEXEC);
	woken = eventfd(0, EFD_CLOEXEC);
	open_edu(argv[1], argv[2]);

	while (fgets(line, sizeof(line), stdin) && sscanf(line, "%15s %d", what, &count) == 2) {
		int threads = !strcmp(what, "thread");
		double start;
		uint32_t id;

		if (threads && !started++ && pthread_create(&thread, NULL, waiter, &threaded) != 0)
			fail("pthread_create");
		if (threads || !strcmp(what, "irq"))
			set_trigger(threads ? threaded : interrupt);
		start = now();
		if (threads)
			raise_and_wait(count, woken);
		else if (!strcmp(what, "irq"))
			raise_and_wait(count, interrupt);
		else if (!strcmp(what, "live"))
			for (; live < count; live++)
				map(FIRST + live * 2ull * PAGE);
		else
			for (index = 0; index < count; index++) {
				if (!strcmp(what, "map")) {
					map(FIRST - PAGE);
					unmap(FIRST - PAGE);
				} else if (!strcmp(what, "load")) {
					if (bar[0] != ID)
						fail("load");
				} else if (pread(device, &id, sizeof(id), 0) != sizeof(id) || id != ID)
					fail("pread");
			}
		printf("%f\n", (now() - start) / count);
		fflush(stdout);
	}
	return 0;
}
