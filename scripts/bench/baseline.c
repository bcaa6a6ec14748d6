/*
 * What the calls cost without JavaScript. Sets up the guest of guest.mjs, then answers lines on standard input:
 *   ioctl N    N × KVM_GET_API_VERSION
 *   exit N     N × KVM_RUN up to a port exit
 * each with the nanoseconds one of them took. With an argument a second thread sleeps meanwhile: a process with threads, as Node is
 * one, shares its descriptor table, and the kernel then counts a reference to the file around every call. Ends with the input; exit status 2 and a line on standard error if /dev/kvm fails.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 2;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void *sleeper(void *nothing)
{
	pause();
	return nothing;
}

int main(int argc, char **argv)
{
	/* mov dx,0x3f8; mov al,'H'; again: out dx,al; jmp again */
	static const unsigned char code[] = { 0xba, 0xf8, 0x03, 0xb0, 0x48, 0xee, 0xeb, 0xfd };
	struct kvm_userspace_memory_region region = { .guest_phys_addr = 0x1000, .memory_size = 0x1000 };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_run *run;
	char line[64], what[16];
	int kvm, vm, vcpu, count;
	pthread_t thread;
	void *ram;

	if ((kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0)
		return fail("/dev/kvm");
	if ((vm = ioctl(kvm, KVM_CREATE_VM, 0)) < 0)
		return fail("KVM_CREATE_VM");
	ram = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		return fail("mmap");
	memcpy(ram, code, sizeof(code));
	region.userspace_addr = (unsigned long)ram;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return fail("KVM_SET_USER_MEMORY_REGION");
	if ((vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0)
		return fail("KVM_CREATE_VCPU");
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return fail("mmap of kvm_run");
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return fail("KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return fail("KVM_SET_SREGS, KVM_SET_REGS");

	if (argc > 1 && pthread_create(&thread, NULL, sleeper, argv[1]) != 0)
		return fail("pthread_create");
	while (fgets(line, sizeof(line), stdin) && sscanf(line, "%15s %d", what, &count) == 2) {
		double start = now();
		int index, bad = 0;

		if (!strcmp(what, "ioctl"))
			for (index = 0; index < count; index++)
				bad += ioctl(kvm, KVM_GET_API_VERSION, 0) != 12;
		else
			for (index = 0; index < count; index++)
				bad += ioctl(vcpu, KVM_RUN, 0) != 0 || run->exit_reason != KVM_EXIT_IO;
		if (bad)
			return fail(what);
		printf("%f\n", (now() - start) / count);
		fflush(stdout);
	}
	return 0;
}
