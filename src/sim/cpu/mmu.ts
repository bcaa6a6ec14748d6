/**
 * What the CPU remembers of its address space: translations by mode of access, and the guest-physical pages as the bus has given them.
 * paging.ts walks the tables.
 */
import type { CpuBus, CpuOptions, PageAccess } from './bus.ts';
import { Fault, PAGE_FAULT, STOP_BLOCK } from './fault.ts';
import {
  BY_KVM,
  FETCH,
  failed,
  legalPdpte,
  NO_PAGING,
  type PagingMode,
  PEEK,
  pagingKey,
  pagingMode,
  READ,
  SYSTEM,
  USER,
  WRITE,
  walk,
} from './paging.ts';
import { AC, CANONICAL_LOW, CANONICAL_TOP, SS, State } from './state.ts';
import { Tlb } from './tlb.ts';

/** One page of guest-physical address space as this CPU last saw it. */
export interface PhysicalPage {
  readonly number: number;
  read: DataView | null | undefined;
  write: DataView | null | undefined;
  fetch: DataView | null | undefined;
  /** Bytes of the page that cached blocks were decoded from; null: none. */
  code: Uint8Array | null;
}

export abstract class Mmu extends State {
  readonly bus: CpuBus;
  /** Guest code goes through KVM's instruction emulator (see CpuOptions). */
  readonly emulated: boolean;
  /** The processor is QEMU's, as in the lab. */
  readonly qemu: boolean;
  /** PAE paging goes by the PDPTRs as they were loaded; otherwise it reads them from memory again, as AMD's processors under KVM do. */
  readonly cachesPdptrs: boolean;
  /** Fast system calls are Intel's. */
  readonly intel: boolean;
  readonly intelFlags: boolean;
  /** Paging without long mode exists: the paravirtual KVM refuses to turn it on. */
  readonly legacyPaging: boolean;
  readonly pdptrs: bigint[] = [0n, 0n, 0n, 0n];
  generation = -1;
  stop = 0;
  paging: PagingMode = NO_PAGING;
  private pagingKey = '';
  /** Bits of a guest-physical address, by CPUID. */
  addressBits = 36;
  /** Page tables may map 1 GiB at once: where KVM walks them itself, only with the guest's CPUID. */
  gigabytePages = true;
  /** Translations for supervisor, user, and supervisor kept from user pages by SMAP. */
  private readonly tlbs = [new Tlb(), new Tlb(), new Tlb()] as const;
  protected tlb: Tlb = this.tlbs[0];
  protected tlbRead: Int32Array = this.tlb.read;
  protected tlbWrite: Int32Array = this.tlb.write;
  protected longRead: Float64Array = this.tlb.longRead;
  protected longWrite: Float64Array = this.tlb.longWrite;
  protected tlbView: DataView[] = this.tlb.view;
  private tlbIndex = 0;
  pages: Map<number, PhysicalPage> = new Map();
  /** KVM's emulator executes the instruction at hand for the processor, and sees memory its own way (CpuBus.emulatedPage). */
  emulating = false;
  private processorPages = this.pages;

  constructor(
    bus: CpuBus,
    { emulated = true, cachesPdptrs = false, intel = false, intelFlags = false, qemu = false, legacyPaging = true }: CpuOptions,
  ) {
    super();
    this.bus = bus;
    this.emulated = emulated;
    this.cachesPdptrs = cachesPdptrs;
    this.intel = intel;
    this.intelFlags = intelFlags;
    this.qemu = qemu;
    this.legacyPaging = legacyPaging;
    this.refresh();
  }

  /** An access to what is no RAM: the emulator's, but where a device is mapped. */
  emulateDevice(gpa: number, write: boolean): boolean {
    if (this.emulating || this.bus.emulatorDiffers !== true || this.bus.reachesDevice?.(gpa, write) === true) return false;
    return this.emulate();
  }

  /** The instruction is KVM's emulator's from here to its end. False where that makes no difference. */
  emulate(): boolean {
    if (this.emulating || this.bus.emulatorDiffers !== true) return false;
    this.emulating = true;
    this.pages = new Map();
    this.stop |= STOP_BLOCK;
    this.flushTlb();
    return true;
  }

  /** The instruction is over, or given up. */
  leaveEmulator(): void {
    this.emulating = false;
    this.pages = this.processorPages;
    this.flushTlb();
  }

  private ram(page: PhysicalPage, access: PageAccess): DataView | null {
    const ram = this.emulating ? this.bus.emulatedPage!(page.number, access) : this.bus.page(page.number, access);
    return ram && new DataView(ram.view.buffer, ram.view.byteOffset + ram.offset, 4096);
  }

  abstract invalidateCode(page: PhysicalPage): void;

  /** The instruction executes on silicon, not in KVM's emulator: always on VMX and SVM; on the paravirtual KVM 64-bit code at CPL 3. */
  get native(): boolean {
    return !this.emulated || (this.cpl === 3 && this.long);
  }

  override refresh(): void {
    super.refresh();
    // The base class refreshes while it is made.
    if (this.tlbs === undefined) return;
    const key = pagingKey(this);
    if (key === this.pagingKey) return;
    this.pagingKey = key;
    this.flushTlb();
  }

  override refreshSegment(n: number): void {
    super.refreshSegment(n);
    if (n === SS && this.tlbs !== undefined) this.selectTlb();
  }

  /** Forgets what the bus has said if it may say something else now. */
  sync(): void {
    if (this.generation === this.bus.generation) return;
    this.generation = this.bus.generation;
    this.forgetPages();
  }

  /** Drops all physical pages and what was decoded from them. */
  forgetPages(): void {
    this.pages.clear();
    this.processorPages.clear();
    this.flushTlb();
  }

  /** Forgets all translations, and what the control registers and CPUID say of them. */
  flushTlb(): void {
    for (const tlb of this.tlbs) tlb.flush();
    // The bus has nothing to say before the guest is entered, or looked at, for the first time.
    if (this.generation !== -1) {
      this.addressBits = this.bus.cpuid(0x80000008, 0).eax & 0xff || 36;
      this.gigabytePages = !this.emulated || (this.bus.cpuid(0x80000001, 0).edx & (1 << 26)) !== 0;
    }
    this.paging = pagingMode(this);
    this.selectTlb();
  }

  /** Stores pass the slow way again: a page has become one that must see them. */
  flushWrites(): void {
    for (const tlb of this.tlbs) tlb.flushWrites();
  }

  /** To be called after CPL, or under SMAP RFLAGS.AC, has changed. Loading SS does it. */
  selectTlb(): void {
    const index = this.cpl === 3 ? 1 : this.paging.smap && !(this.fl & AC) ? 2 : 0;
    if (index === this.tlbIndex) return;
    this.tlbIndex = index;
    this.tlb = this.tlbs[index as 0 | 1 | 2];
    this.tlbRead = this.tlb.read;
    this.tlbWrite = this.tlb.write;
    this.longRead = this.tlb.longRead;
    this.longWrite = this.tlb.longWrite;
    this.tlbView = this.tlb.view;
  }

  /** Guest-physical address of a linear one for an access (READ, WRITE, FETCH, SYSTEM); raises the page fault there may be. */
  translate(linear: number, access: number): number {
    if (this.paging.levels === 0) return linear >>> 0;
    const user = this.cpl === 3 && !(access & SYSTEM) ? USER : 0;
    const gpa = walk(this, linear, access | user);
    if (gpa >= 0) return gpa;
    this.cr2 = BigInt.asUintN(64, BigInt(linear));
    const fetch = access & FETCH && (this.paging.nx || this.paging.smep) ? FETCH : 0;
    throw new Fault(PAGE_FAULT, failed.code | (access & WRITE) | user | fetch);
  }

  /**
   * Guest-physical address of a linear one, signed as in 64-bit mode, as the page tables have it now; −1: none, or it may not be accessed so.
   * Nothing is marked as accessed, unless `marks`: KVM_TRANSLATE does that, and asks as supervisor (`user` false) for a read.
   */
  lookUp(linear: number, access: number = READ, user = false, marks = false): number {
    this.sync();
    if (this.paging.levels === 0) return linear >>> 0;
    if (this.paging.levels >= 4 && (linear < CANONICAL_LOW || linear > CANONICAL_TOP)) return -1;
    return walk(this, this.longMode ? linear : linear >>> 0, access | (marks ? BY_KVM : PEEK) | (user ? USER : 0));
  }

  /** PAE paging loads its four top entries at writes of CR0, CR3 and CR4: false, and nothing taken, if one is illegal or has no RAM. */
  loadPdptrs(): boolean {
    this.sync();
    const table = Number(this.cr3 & 0xffff_ffe0n);
    const view = this.readable(this.physical(Math.floor(table / 4096)));
    if (view === null) return false;
    const entries = [0, 1, 2, 3].map((n) => view.getBigUint64((table & 0xfff) + n * 8, true));
    if (!entries.every((entry) => legalPdpte(this, entry))) return false;
    entries.forEach((entry, n) => {
      this.pdptrs[n] = entry;
    });
    return true;
  }

  physical(number: number): PhysicalPage {
    let page = this.pages.get(number);
    if (page === undefined) {
      page = { number, read: undefined, write: undefined, fetch: undefined, code: null };
      this.pages.set(number, page);
    }
    return page;
  }

  /** The page as it can be loaded from; null: it is not RAM. Asked for each access apart: a store need not be able to load. */
  readable(page: PhysicalPage): DataView | null {
    if (page.read === undefined) {
      page.read = this.ram(page, 'read');
    }
    return page.read;
  }

  /** The page as code can be fetched from it; null: it cannot. */
  fetchable(page: PhysicalPage): DataView | null {
    if (page.fetch === undefined) {
      page.fetch = this.ram(page, 'fetch');
    }
    return page.fetch;
  }

  /**
   * A page of the guest's page tables. With nested paging the processor's walk is a store to each table it passes, whatever it changes;
   * KVM's own walk only loads.
   */
  tablePage(page: PhysicalPage, peek: boolean): DataView | null {
    return (this.emulated || peek ? null : this.writable(page)) ?? this.readable(page);
  }

  protected writable(page: PhysicalPage): DataView | null {
    if (page.write === undefined) {
      page.write = this.ram(page, 'write');
    }
    return page.write;
  }

  /** A store to guest-physical memory, aligned: page-table entries. Nothing where it cannot be written. */
  physicalStore32(gpa: number, value: number): void {
    const page = this.physical(Math.floor(gpa / 4096));
    const view = this.writable(page);
    if (view === null) return;
    view.setInt32(gpa & 0xfff, value, true);
    if (this.bus.tellsStores === true) this.bus.written?.(page.number);
    if (page.code !== null) this.storedTo(page, gpa & 0xfff, 4);
  }

  protected storedTo(page: PhysicalPage, start: number, length: number): void {
    for (let i = start; i < start + length; i++) {
      if (!page.code![i]) continue;
      this.invalidateCode(page);
      this.stop |= STOP_BLOCK;
      return;
    }
  }
}
