/*
 * Asks a host's /dev/kvm everything a machine profile of the simulator holds, and prints it as JSON.
 * Built and run by capture-profile.mjs. Needs read/write access to /dev/kvm; changes nothing outside its own VMs.
 */
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LAST_CAP 260
/* Newer than some headers this is built with. */
#define CAP_VM_TYPES 235

static int sys, vm;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void caps(const char *name, int fd, const char *end) {
  printf("\"%s\":{", name);
  for (int cap = 0, first = 1; cap <= LAST_CAP; cap++) {
    int value = ioctl(fd, KVM_CHECK_EXTENSION, cap);
    if (value == 0) continue;
    printf("%s\"%d\":%d", first ? "" : ",", cap, value);
    first = 0;
  }
  printf("}%s\n", end);
}

/* Capabilities of a VM of each further type there is. */
static void types(void) {
  int mask = ioctl(sys, KVM_CHECK_EXTENSION, CAP_VM_TYPES), first = 1;
  printf("\"types\":{");
  for (int type = 1; type < 31; type++) {
    char name[8];
    int other = mask >> type & 1 ? ioctl(sys, KVM_CREATE_VM, type) : -1;
    if (other < 0) continue;
    if (!first) printf(",");
    first = 0;
    snprintf(name, sizeof name, "%d", type);
    caps(name, other, "");
    close(other);
  }
  printf("},\n");
}

/* Sizes of huge pages in KiB. */
static void huge_pages(void) {
  DIR *pools = opendir("/sys/kernel/mm/hugepages");
  int first = 1;
  printf("\"hugePages\":[");
  for (struct dirent *pool; pools && (pool = readdir(pools));) {
    unsigned long kib;
    if (sscanf(pool->d_name, "hugepages-%lukB", &kib) != 1) continue;
    printf("%s%lu", first ? "" : ",", kib);
    first = 0;
  }
  printf("],\n\"numa\":%s,\n", access("/proc/sys/vm/nr_hugepages_mempolicy", F_OK) == 0 ? "true" : "false");
}

static void cpuid(const char *name, unsigned long request) {
  struct kvm_cpuid2 *table = calloc(1, sizeof *table + 256 * sizeof table->entries[0]);
  table->nent = 256;
  if (ioctl(sys, request, table)) table->nent = 0;
  printf("\"%s\":[", name);
  for (unsigned i = 0; i < table->nent; i++) {
    struct kvm_cpuid_entry2 *e = &table->entries[i];
    printf("%s[%u,%u,%u,%u,%u,%u,%u]", i ? ",\n" : "", e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
  }
  printf("],\n");
}

static struct kvm_msr_list *msr_list(const char *name, unsigned long request) {
  struct kvm_msr_list *list = calloc(1, sizeof *list + 1024 * 4);
  list->nmsrs = 1024;
  if (ioctl(sys, request, list)) die(name);
  printf("\"%s\":[", name);
  for (unsigned i = 0; i < list->nmsrs; i++) printf("%s%u", i ? "," : "", list->indices[i]);
  printf("],\n");
  return list;
}

struct one_msr {
  uint32_t nmsrs, pad, index, reserved;
  uint64_t data;
};

static int get_msr(int fd, uint32_t index, uint64_t *data) {
  struct one_msr m = {.nmsrs = 1, .index = index};
  int got = ioctl(fd, KVM_GET_MSRS, &m);
  *data = m.data;
  return got == 1;
}

/* The value of each listed feature MSR on the system descriptor. */
static void feature_values(const struct kvm_msr_list *list) {
  uint64_t data;
  printf("\"featureMsrs\":[");
  for (unsigned i = 0; i < list->nmsrs; i++) {
    if (!get_msr(sys, list->indices[i], &data)) die("KVM_GET_MSRS");
    printf("%s[%u,\"%llu\"]", i ? "," : "", list->indices[i], (unsigned long long)data);
  }
  printf("],\n");
}

/*
 * A KVM whose guests execute CPUID on the silicon (PVM) merges the host's leaves 1, 7 and 0xD into what SET_CPUID2 is given. Gives it zeros
 * and prints what became of them; prints nothing where they stay zeros. Leaf 0xD.1 is asked of the processor itself.
 */
static void native_cpuid(void) {
  struct kvm_cpuid2 *table = calloc(1, sizeof *table + 256 * sizeof table->entries[0]);
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  static const uint32_t leaves[][3] = {{1, 0, 0}, {7, 0, 1}, {7, 1, 1}};
  table->nent = 3;
  for (int i = 0; i < 3; i++) {
    table->entries[i].function = leaves[i][0];
    table->entries[i].index = leaves[i][1];
    table->entries[i].flags = leaves[i][2];
  }
  if (ioctl(vcpu, KVM_SET_CPUID2, table)) die("KVM_SET_CPUID2");
  table->nent = 256;
  if (ioctl(vcpu, KVM_GET_CPUID2, table)) die("KVM_GET_CPUID2");
  printf("\"nativeCpuid\":[");
  for (unsigned i = 0; table->entries[0].ecx != 0 && i < table->nent; i++) {
    struct kvm_cpuid_entry2 *e = &table->entries[i];
    uint32_t a, b, c, d;
    if (e->function == 0xd && e->index == 1) {
      __cpuid_count(0xd, 1, a, b, c, d);
      e->eax = a, e->ebx = b, e->ecx = c, e->edx = d;
    }
    printf("%s[%u,%u,%u,%u,%u,%u,%u]", i ? "," : "", e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
  }
  printf("],\n");
}

/* The highest guest address bit a memslot may have. */
static int gpa_bits(void) {
  for (int bits = 52; bits > 32; bits--) {
    struct kvm_userspace_memory_region region = {.slot = 7, .guest_phys_addr = (1ull << bits) - 4096, .memory_size = 4096};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0) return bits;
  }
  return 32;
}

/* Bits of an address userspace may name: 56 where the host pages with five levels. */
static int hva_bits(void) {
  struct kvm_userspace_memory_region region = {.slot = 8, .memory_size = 4096, .userspace_addr = 1ull << 47};
  return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0 ? 56 : 47;
}

/* Device nodes of the interfaces kvio is about. */
static void devices(void) {
  static const char *paths[] = {"/dev/kvm", "/dev/vfio/vfio", "/dev/iommu"};
  int first = 1;
  printf("\"devices\":[");
  for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
    if (access(paths[i], F_OK)) continue;
    printf("%s\"%s\"", first ? "" : ",", paths[i]);
    first = 0;
  }
  printf("],\n");
}

/* KVM_X86_SEV_VMSA_FEATURES, where KVM is built with CONFIG_KVM_AMD_SEV. */
static void sev_features(void) {
  uint64_t value = 0;
  struct kvm_device_attr attr = {.group = 1, .addr = (uint64_t)&value};
  if (ioctl(sys, KVM_GET_DEVICE_ATTR, &attr) == 0) printf("\"sevVmsaFeatures\":\"%llu\",\n", (unsigned long long)value);
}

/* The host's XCR0, and the MXCSR bits its processor has. */
static void fpu(void) {
  static uint8_t area[512] __attribute__((aligned(16)));
  uint32_t low, high, mask;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  __asm__ volatile("fxsave %0" : "=m"(area));
  memcpy(&mask, area + 28, 4);
  printf("\"hostXcr0\":\"%llu\",\"mxcsrMask\":%u,\n", (unsigned long long)high << 32 | low, mask);
}

int main(void) {
  struct utsname u;
  uname(&u);
  if ((sys = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) die("/dev/kvm");
  if ((vm = ioctl(sys, KVM_CREATE_VM, 0)) < 0) die("KVM_CREATE_VM");
  printf("{\"release\":\"%s\",\n", u.release);
  caps("system", sys, ",");
  caps("vm", vm, ",");
  types();
  huge_pages();
  devices();
  sev_features();
  fpu();
  cpuid("cpuid", KVM_GET_SUPPORTED_CPUID);
  cpuid("emulatedCpuid", KVM_GET_EMULATED_CPUID);
  native_cpuid();
  msr_list("msrs", KVM_GET_MSR_INDEX_LIST);
  feature_values(msr_list("features", KVM_GET_MSR_FEATURE_INDEX_LIST));
  uint64_t mce = 0;
  ioctl(sys, KVM_X86_GET_MCE_CAP_SUPPORTED, &mce);
  struct rlimit nofile;
  getrlimit(RLIMIT_NOFILE, &nofile);
  printf("\"tscKhz\":%d,\"mceCap\":\"%llu\",\"gpaBits\":%d,\"hvaBits\":%d,\"nofile\":%lu,\"memory\":%llu}\n", ioctl(vm, KVM_GET_TSC_KHZ, 0),
         (unsigned long long)mce, gpa_bits(), hva_bits(), (unsigned long)nofile.rlim_cur, (unsigned long long)sysconf(_SC_PHYS_PAGES) * 4096);
  return 0;
}
