/*
 * Asks this host's /dev/kvm everything a machine profile of the simulator holds, and prints it as JSON.
 * Built and run by capture-profile.mjs. Needs read/write access to /dev/kvm; changes nothing outside its own VMs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LAST_CAP 260

static int sys, vm, vcpu;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void caps(const char *name, int fd) {
  printf("\"%s\":{", name);
  for (int cap = 0, first = 1; cap <= LAST_CAP; cap++) {
    int value = ioctl(fd, KVM_CHECK_EXTENSION, cap);
    if (value == 0) continue;
    printf("%s\"%d\":%d", first ? "" : ",", cap, value);
    first = 0;
  }
  printf("},\n");
}

static struct kvm_cpuid2 *cpuid(const char *name, unsigned long request) {
  struct kvm_cpuid2 *table = calloc(1, sizeof *table + 256 * sizeof table->entries[0]);
  table->nent = 256;
  if (ioctl(sys, request, table)) table->nent = 0;
  printf("\"%s\":[", name);
  for (unsigned i = 0; i < table->nent; i++) {
    struct kvm_cpuid_entry2 *e = &table->entries[i];
    printf("%s[%u,%u,%u,%u,%u,%u,%u]", i ? ",\n" : "", e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
  }
  printf("],\n");
  return table;
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

/* Every readable MSR of the ranges KVM knows: [index, value]. */
static void msr_values(const char *name, int fd, const struct kvm_msr_list *list) {
  static const uint32_t ranges[][2] = {{0, 0x2000}, {0x4b564d00, 0x4b564d10}, {0x40000000, 0x40000200}, {0xc0000000, 0xc0000400}, {0xc0010000, 0xc0011100}};
  int first = 1;
  uint64_t data;
  (void)list;
  printf("\"%s\":[", name);
  for (unsigned r = 0; r < sizeof ranges / sizeof ranges[0]; r++)
    for (uint32_t index = ranges[r][0]; index < ranges[r][1]; index++) {
      if (!get_msr(fd, index, &data)) continue;
      printf("%s[%u,\"%llu\"]", first ? "" : ",\n", index, (unsigned long long)data);
      first = 0;
    }
  printf("],\n");
}

static void segment(const char *name, const struct kvm_segment *s) {
  printf("\"%s\":{\"base\":\"%llu\",\"limit\":%u,\"selector\":%u,\"type\":%u,\"present\":%u,\"dpl\":%u,\"db\":%u,\"s\":%u,\"l\":%u,\"g\":%u,\"avl\":%u,\"unusable\":%u},\n", name,
         (unsigned long long)s->base, s->limit, s->selector, s->type, s->present, s->dpl, s->db, s->s, s->l, s->g, s->avl, s->unusable);
}

static void reset_state(void) {
  struct kvm_regs r;
  struct kvm_sregs s;
  struct kvm_fpu f;
  if (ioctl(vcpu, KVM_GET_REGS, &r) || ioctl(vcpu, KVM_GET_SREGS, &s) || ioctl(vcpu, KVM_GET_FPU, &f)) die("reset state");
  printf("\"reset\":{\"rdx\":\"%llu\",\"rip\":\"%llu\",\"rflags\":\"%llu\",\n", (unsigned long long)r.rdx, (unsigned long long)r.rip, (unsigned long long)r.rflags);
  segment("cs", &s.cs);
  segment("ds", &s.ds);
  segment("ss", &s.ss);
  segment("tr", &s.tr);
  segment("ldt", &s.ldt);
  printf("\"cr0\":\"%llu\",\"apic_base\":\"%llu\",\"fcw\":%u,\"mxcsr\":%u},\n", (unsigned long long)s.cr0, (unsigned long long)s.apic_base, f.fcw, f.mxcsr);
}

int main(void) {
  struct utsname u;
  uname(&u);
  if ((sys = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0) die("/dev/kvm");
  if ((vm = ioctl(sys, KVM_CREATE_VM, 0)) < 0) die("KVM_CREATE_VM");
  printf("{\"release\":\"%s\",\n", u.release);
  caps("system", sys);
  caps("vm", vm);
  if ((vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0) die("KVM_CREATE_VCPU");
  struct kvm_cpuid2 *table = cpuid("supportedCpuid", KVM_GET_SUPPORTED_CPUID);
  cpuid("emulatedCpuid", KVM_GET_EMULATED_CPUID);
  struct kvm_msr_list *list = msr_list("msrIndexList", KVM_GET_MSR_INDEX_LIST);
  struct kvm_msr_list *features = msr_list("msrFeatureIndexList", KVM_GET_MSR_FEATURE_INDEX_LIST);
  msr_values("featureMsrs", sys, features);
  msr_values("msrs", vcpu, list);
  reset_state();
  if (ioctl(vcpu, KVM_SET_CPUID2, table)) die("KVM_SET_CPUID2");
  msr_values("msrsWithCpuid", vcpu, list);
  printf("\"tscKhz\":%d,\n", ioctl(vm, KVM_GET_TSC_KHZ, 0));
  struct kvm_device_attr attr = {.group = 0, .attr = 0};
  uint64_t xcr0 = 0;
  attr.addr = (uintptr_t)&xcr0;
  if (ioctl(sys, KVM_GET_DEVICE_ATTR, &attr)) xcr0 = 0;
  uint64_t mce = 0;
  ioctl(sys, KVM_X86_GET_MCE_CAP_SUPPORTED, &mce);
  printf("\"xcr0\":\"%llu\",\"mceCap\":\"%llu\"}\n", (unsigned long long)xcr0, (unsigned long long)mce);
  return 0;
}
