/*
 * What the processor itself makes of the decimal adjustments, for every input. 64-bit mode does not have them: built and run by
 *   cc -m32 -O1 -nostdlib -static -ffreestanding -fno-pic -fno-stack-protector -o decimal scripts/cpu/decimal.c && ./decimal | node scripts/cpu/decimal.mjs
 *
 * stdout: for each of DAA, DAS (AX = 0 … 255), AAA, AAS, AAM 10, AAD 10, AAM 7, AAD 7 (AX = 0 … 65535), for each AX, for each of
 * CF = AF = 0, CF, AF, CF + AF: u16 AX, u16 arithmetic flags.
 */
static int emit(const void *from, int n) {
  int r;
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(4), "b"(1), "c"(from), "d"(n) : "memory");
  return r;
}

#define OP(name, text)                                                                                                    \
  static void name(unsigned ax, unsigned flags, unsigned *out) {                                                          \
    unsigned r, f;                                                                                                        \
    __asm__ volatile("push %3; popf; " text "; pushf; pop %1" : "=a"(r), "=&r"(f) : "0"(ax), "r"(flags) : "cc", "memory"); \
    out[0] = r;                                                                                                           \
    out[1] = f & 0x8d5;                                                                                                   \
  }
OP(daa, "daa") OP(das, "das") OP(aaa, "aaa") OP(aas, "aas") OP(aam, "aam") OP(aad, "aad") OP(aam7, "aam $7") OP(aad7, "aad $7")

static unsigned short results[65536];
static int filled;

static void flush(void) {
  char *p = (char *)results;
  for (int left = filled * 2; left > 0;) {
    int n = emit(p, left);
    if (n <= 0) break;
    p += n;
    left -= n;
  }
  filled = 0;
}

void _start(void) {
  void (*ops[])(unsigned, unsigned, unsigned *) = {daa, das, aaa, aas, aam, aad, aam7, aad7};
  for (int k = 0; k < 8; k++)
    for (unsigned ax = 0; ax < (k < 2 ? 256u : 65536u); ax++)
      for (unsigned fl = 0; fl < 4; fl++) {
        unsigned out[2];
        ops[k](ax, 2 | (fl & 1) | ((fl & 2) << 3), out);
        results[filled++] = out[0];
        results[filled++] = out[1];
        if (filled == 65536) flush();
      }
  flush();
  __asm__ volatile("int $0x80" ::"a"(1), "b"(0));
}
