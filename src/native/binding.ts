/**
 * The typed surface of the addon in kvm-addon/, and the only file that loads it.
 *
 * Every class wraps one kernel object. Values are validated by the callers in kvm/ and host/; the addon asserts. Errors are
 * `Error`s with `code` ('EINVAL'), `errno` (negative, as Node's) and `syscall` ('KVM_CREATE_VM'), wrapped once into
 * TsvmError by the callers. Every `close()` may be called in any order, twice, or never (the garbage collector then does
 * it). After it, calls throw EBADF.
 */
import { createRequire } from 'node:module';
import { nativeFile, nativeRemedy } from '../util/package-file.js';
import { addonError } from './addon-error.js';

/** The structures that KVM gets and sets whole, by the name of the kernel's struct. Codecs are in kvm/. */
export type VcpuStruct =
  | 'kvm_regs'
  | 'kvm_sregs'
  | 'kvm_fpu'
  | 'kvm_xsave'
  | 'kvm_xcrs'
  | 'kvm_lapic_state'
  | 'kvm_mp_state'
  | 'kvm_vcpu_events'
  | 'kvm_debugregs';

/** Machine-wide structures. `kvm_irqchip` needs `arg` 0 (PIC master), 1 (PIC slave) or 2 (IOAPIC). */
export type VmStruct = 'kvm_irqchip' | 'kvm_pit_state2' | 'kvm_clock_data';

export interface NativeKvm {
  /** KVM_GET_API_VERSION. */
  apiVersion(): number;
  /** KVM_CHECK_EXTENSION. */
  checkExtension(capability: number): number;
  /** KVM_GET_SUPPORTED_CPUID: packed `struct kvm_cpuid_entry2`, 40 bytes each. */
  supportedCpuid(): Uint8Array;
  /** KVM_GET_MSR_INDEX_LIST. */
  msrIndexList(): Uint32Array;
  /** KVM_CREATE_VM. */
  createVm(): NativeVm;
  close(): void;
}

/** A sealed memfd (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL), mapped shared and unreserved. */
export interface NativeMemory {
  readonly sizeBytes: number;
  /** The mapping. Detached by `close()`, after which the pages go as soon as no VM maps them. */
  readonly buffer: ArrayBuffer;
  /**
   * From now on writes go to private copies of pages, and the memfd keeps what it holds. Nobody may write while this is done.
   * Nothing happens if it is private already.
   */
  freeze(): void;
  /** Replaces the contents by a private view of another memory's, which must be frozen and of the same size. */
  mapMemory(source: NativeMemory): void;
  /**
   * Replaces `length` bytes from `offset` by a private view of an open file, which may be closed afterwards. All in whole
   * pages. If the file is truncated later, what is lost reads as zeroes, and `lost` is signalled.
   */
  mapFile(fd: number, fileOffset: number, offset: number, length: number, lost: NativeEventFd): void;
  /**
   * Pages that may hold data, other than those of mapped files: pairs of first page and count, in order. They are those of
   * the memfd, and copies of pages that were mapped privately (/proc/self/pagemap).
   */
  dataPages(): Uint32Array;
  /**
   * Punches holes into the memfd, unless it is frozen, and drops private copies of pages: pairs of first page and count. On
   * another thread; `freeze` must not come before it is done.
   */
  release(pages: Uint32Array): Promise<void>;
  close(): void;
}

/** KVM does not keep it: hold on to it as long as it is to be heard. */
export interface NativeEventFd {
  /** Adds one. */
  signal(): void;
  /** Calls `callback` on this thread whenever the count was not zero, having reset it to zero. Keeps nothing alive. */
  listen(callback: () => void): void;
  close(): void;
}

/** A TAP interface that was there, opened without blocking: a frame a call, behind a struct virtio_net_hdr_v1 of 12 bytes. */
export interface NativeTap {
  /** The interface's, when it was opened. */
  readonly mtu: number;
  /** One frame into `target`, cut off where that ends: its length, 0 when there is none. Throws EBADFD when the interface is gone. */
  read(target: Uint8Array): number;
  /** False when the frame was lost: the interface is down or gone, or there is no memory. */
  write(frame: Uint8Array): boolean;
  /** What may be left to who reads: TUN_F_* of linux/if_tun.h. Nothing at first. */
  setOffloads(flags: number): void;
  /** Calls `callback` on this thread as long as there are frames, or the interface is gone. Keeps nothing alive. */
  listen(callback: () => void): void;
  /** Until the next `listen`. */
  mute(): void;
  close(): void;
}

/** What a fast register does; see bus/bus-device.ts. Kinds are numbers on this side. */
export interface NativeFastRegister {
  /** 0 port, 1 memory. */
  readonly space: 0 | 1;
  readonly kind: 'load' | 'clear-bits' | 'stream';
  readonly addr: number;
  /**
   * 'load': the bytes served: 1, 2, 4 or 8. 'clear-bits': four bytes, aligned. 'stream': one byte, 1 = enabled. The addon
   * reads the memory behind it: its ArrayBuffer must not be detached.
   */
  readonly cell: Uint8Array;
  /** 'stream': bytes to gather before the write is handed to JavaScript as an ordinary exit. */
  readonly capacityBytes?: number;
}

export interface NativeVm {
  checkExtension(capability: number): number;
  /** KVM_SET_TSS_ADDR. */
  setTssAddr(addr: number): void;
  /** KVM_SET_IDENTITY_MAP_ADDR. */
  setIdentityMapAddr(addr: number): void;
  /** KVM_CREATE_IRQCHIP. */
  createIrqchip(): void;
  /** KVM_CREATE_PIT2. */
  createPit2(flags: number): void;
  /**
   * KVM_SET_USER_MEMORY_REGION over `memory[offset, offset + sizeBytes)`; sizeBytes 0 removes the slot. The VM keeps the
   * mapping alive. Flags: KVM_MEM_READONLY 2.
   */
  setMemorySlot(
    slot: number,
    flags: number,
    addr: number,
    sizeBytes: number,
    memory: NativeMemory | null,
    offset: number,
  ): void;
  /** KVM_CREATE_VCPU. All vCPUs of a VM must be created before the first runs. */
  createVcpu(id: number): NativeVcpu;
  /** KVM_GET_IRQCHIP, KVM_GET_PIT2, KVM_GET_CLOCK. */
  getStruct(name: VmStruct, arg?: number): Uint8Array;
  /** KVM_SET_IRQCHIP, KVM_SET_PIT2, KVM_SET_CLOCK. */
  setStruct(name: VmStruct, bytes: Uint8Array, arg?: number): void;
  /** KVM_IRQ_LINE. */
  irqLine(gsi: number, level: 0 | 1): void;
  /** KVM_IRQFD. With `resample`, level-triggered. */
  irqfd(event: NativeEventFd, gsi: number, assign: boolean, resample?: NativeEventFd): void;
  /** KVM_IOEVENTFD. `length` 0, 1, 2, 4 or 8; `value` undefined matches every write. */
  ioeventfd(
    event: NativeEventFd,
    space: 0 | 1,
    addr: number,
    length: number,
    value: number | undefined,
    assign: boolean,
  ): void;
  /** Throws EBUSY while a vCPU runs. */
  setFastRegisters(registers: readonly NativeFastRegister[]): void;
  /**
   * Called on this thread, in batches, with what a 'stream' register gathered: the index into the array given to
   * `setFastRegisters`, and the bytes. Always called before any onExit of the same VM that happened later.
   */
  onStream(callback: (index: number, bytes: Uint8Array) => void): void;
  /** KVM_GET_STATS_FD, read whole: header, descriptors, data (Documentation/virt/kvm/api.rst 4.133). */
  readStats(): Uint8Array;
  /** Joins every vCPU thread, then closes the vCPUs and the VM. */
  close(): void;
}

export interface NativeVcpu {
  readonly id: number;
  /** The mapped `struct kvm_run` (and what follows it: PIO data, coalesced ring). Detached by `close()`. */
  readonly runPage: ArrayBuffer;
  /**
   * Counts kept by the thread, as doubles that it only adds to:
   * [0] KVM_RUN returns, [1] exits given to JavaScript, [2] served by 'load', [3] by 'clear-bits', [4] by 'stream',
   * [5] KVM_RUN returns by EINTR, [6] no count but the id of the thread, [8 + exit_reason] exits by reason (up to 39).
   */
  readonly counters: Float64Array;
  /** Sets what is called on this thread when the vCPU stopped with an exit that needs an answer. `error` is errno of KVM_RUN or 0. */
  onExit(callback: (error: number) => void): void;
  /**
   * Lets the thread (made at the first call) enter KVM_RUN. It stays there, over exits that it can serve itself, until one
   * needs JavaScript. Throws if it is already running. EINTR is given as exit reason KVM_EXIT_INTR (10) after `kick`.
   * While it runs it keeps itself, its VM and Node alive.
   */
  run(): void;
  /**
   * Makes a running vCPU come back with KVM_EXIT_INTR. If it is not running, the next `run` comes back at once (pending I/O
   * of the last exit is completed by it, no guest instruction is executed): this is how an exit is finished before saving.
   */
  kick(): void;
  readonly running: boolean;
  /** KVM_GET_REGS and its like. This and all below but `readStats` and `close` throw EBUSY while running. */
  getStruct(name: VcpuStruct): Uint8Array;
  setStruct(name: VcpuStruct, bytes: Uint8Array): void;
  /** KVM_GET_CPUID2 / KVM_SET_CPUID2: packed `struct kvm_cpuid_entry2`. */
  getCpuid(): Uint8Array;
  setCpuid(entries: Uint8Array): void;
  /** KVM_GET_MSRS. Stops at the first index that KVM refuses: the result is then shorter. */
  getMsrs(indices: Uint32Array): BigUint64Array;
  /** KVM_SET_MSRS. Returns how many were set. */
  setMsrs(indices: Uint32Array, values: BigUint64Array): number;
  /** KVM_SET_GUEST_DEBUG: `control`, and DR0 to DR3, DR6, DR7 as eight values. */
  setGuestDebug(control: number, debugRegisters: BigUint64Array): void;
  /** KVM_TRANSLATE: the guest physical address, or undefined when not mapped. */
  translate(linearAddress: bigint): number | undefined;
  /** KVM_KVMCLOCK_CTRL: tells the guest that it stood still. False if it has no kvm-clock, which is no error: one costs its stack trace. */
  kvmclockCtrl(): boolean;
  /** Reads statistics as the VM's does. The first call throws EBUSY while running, since it opens; later ones do not. */
  readStats(): Uint8Array;
  /** Kicks and joins the thread, unmaps the run page. */
  close(): void;
}

/** System calls on an open file, on threads of its own. Each ends with a call of `onDone`, in which several may share. */
export interface NativeDiskIo {
  /** Reads what is in the page cache, on this thread: the bytes read, or -EAGAIN, -EOPNOTSUPP where that cannot be, or another errno negated. */
  tryRead(buffers: readonly Uint8Array[], offset: number): number;
  /** @param buffers must stay alive, and where they are, until it is done. */
  submit(id: number, call: 'read' | 'write', buffers: readonly Uint8Array[], offset: number): void;
  submit(id: number, call: 'sync'): void;
  submit(id: number, call: 'allocate', mode: number, offset: number, length: number): void;
  /** Waits for what has begun; nothing is told any more. The file stays open. */
  close(): void;
}

/**
 * System calls in a folder, each under an id, on threads of its own. Those with `uid` and `gid` are made with these as the
 * thread's fsuid and fsgid; the others without any capability. No name is followed if it is a link. Buffers and `words` must stay
 * alive until a call is done; `words` are those of src/host/fs/folder-io.ts. What a call opens is its result: a descriptor, which
 * {@link NativeFolderIo.closeDescriptor} closes.
 */
export interface NativeFolderIo {
  /** open(2) with O_PATH, as this process, following links: the folder to share. */
  openRoot(id: number, path: Uint8Array, words: BigInt64Array): void;
  /** openat(2) with O_PATH. */
  lookup(id: number, uid: number, gid: number, dir: number, name: Uint8Array, words: BigInt64Array): void;
  /** statx(2). */
  stat(id: number, fd: number, words: BigInt64Array): void;
  /** openat(2) with O_CREAT and O_EXCL; without O_EXCL in `flags`, what is there if it is a regular file. */
  create(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    name: Uint8Array,
    flags: number,
    mode: number,
    words: BigInt64Array,
  ): void;
  /** openat(2) with O_TMPFILE. */
  createUnnamed(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    flags: number,
    mode: number,
    words: BigInt64Array,
  ): void;
  /** mknodat(2) of device 0:0. */
  makeNode(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    name: Uint8Array,
    mode: number,
    words: BigInt64Array,
  ): void;
  /** mkdirat(2). */
  makeFolder(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    name: Uint8Array,
    mode: number,
    words: BigInt64Array,
  ): void;
  /** symlinkat(2). */
  symlink(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    name: Uint8Array,
    target: Uint8Array,
    words: BigInt64Array,
  ): void;
  /** linkat(2) of what `fd` holds. */
  link(
    id: number,
    uid: number,
    gid: number,
    fd: number,
    dir: number,
    name: Uint8Array,
    words: BigInt64Array,
  ): void;
  /** unlinkat(2): holds what was there, and tells of it as it is afterwards. */
  unlink(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    name: Uint8Array,
    flags: number,
    words: BigInt64Array,
  ): void;
  /**
   * renameat2(2). `moved` tells of what is at the new name afterwards; `other` of what was replaced, which it holds, or of what is at
   * the old name after an exchange.
   */
  rename(
    id: number,
    uid: number,
    gid: number,
    dir: number,
    name: Uint8Array,
    newDir: number,
    newName: Uint8Array,
    flags: number,
    moved: BigInt64Array,
    other: BigInt64Array,
  ): void;
  /** fchownat(2), chmod(2), ftruncate(2) of `file` or truncate(2) if that is -1, utimensat(2), as far as `changes` say. */
  setAttributes(
    id: number,
    uid: number,
    gid: number,
    fd: number,
    file: number,
    changes: BigInt64Array,
    words: BigInt64Array,
  ): void;
  /** readlinkat(2). */
  readLink(id: number, uid: number, gid: number, fd: number, target: Uint8Array): void;
  /** open(2) of the regular file that `fd` holds. */
  openFile(id: number, uid: number, gid: number, fd: number, flags: number): void;
  /** openat(2) of the folder that `fd` holds, to list it. */
  openFolder(id: number, uid: number, gid: number, fd: number): void;
  /** lseek(2), getdents64(2), and statx(2) of as many entries as there are words for. */
  list(
    id: number,
    uid: number,
    gid: number,
    fd: number,
    position: bigint,
    buffer: Uint8Array,
    words: BigInt64Array,
  ): void;
  /** The calls of xattr(7) on what `fd` holds, which must be a file or a folder. Flags: XATTR_CREATE 1, XATTR_REPLACE 2. */
  getXattr(id: number, uid: number, gid: number, fd: number, name: Uint8Array, value: Uint8Array): void;
  setXattr(
    id: number,
    uid: number,
    gid: number,
    fd: number,
    name: Uint8Array,
    value: Uint8Array,
    flags: number,
  ): void;
  listXattr(id: number, uid: number, gid: number, fd: number, names: Uint8Array): void;
  removeXattr(id: number, uid: number, gid: number, fd: number, name: Uint8Array): void;
  /** Reads as {@link NativeDiskIo.tryRead}. */
  tryRead(fd: number, buffers: readonly Uint8Array[], offset: number): number;
  /** preadv(2). */
  read(id: number, fd: number, buffers: readonly Uint8Array[], offset: number): void;
  /** pwritev2(2), with RWF_APPEND or not. */
  write(id: number, fd: number, buffers: readonly Uint8Array[], offset: number, append: boolean): void;
  /** fsync(2) or fdatasync(2). */
  sync(id: number, fd: number, dataOnly: boolean): void;
  /** fallocate(2). */
  allocate(id: number, fd: number, mode: number, offset: number, length: number): void;
  /** lseek(2). */
  seek(id: number, fd: number, offset: number, whence: number): void;
  /** copy_file_range(2). */
  copy(id: number, fd: number, offset: number, newFd: number, newOffset: number, length: number): void;
  /** fstatfs(2): the block's bytes, then blocks, free and available ones, files and free ones. */
  statFs(id: number, fd: number, facts: BigInt64Array): void;
  closeDescriptor(id: number, fd: number): void;
  /** Waits for what has begun, drops the rest, and closes every descriptor; nothing is told any more. */
  close(): void;
}

export interface NativeAddon {
  openKvm(path: string): NativeKvm;
  createMemory(sizeBytes: number, name: string): NativeMemory;
  createEventFd(): NativeEventFd;
  /** SIOCGIFMTU, then TUNSETIFF: ENODEV if there is no such interface, EBUSY if somebody has it, EINVAL if it is no TAP. */
  openTap(name: string): NativeTap;
  /**
   * At most `threads` (255) at a time, which are made when they are needed and end soon after.
   *
   * @param onDone takes pairs: an id, and what its call returned or its errno negated.
   */
  openDiskIo(fd: number, threads: number, onDone: (results: Float64Array) => void): NativeDiskIo;
  /** Makes threads as {@link openDiskIo}, for calls in a folder. */
  openFolderIo(threads: number, onDone: (results: Float64Array) => void): NativeFolderIo;
  /** flock(2) with LOCK_NB on an open file: 'shared' or 'exclusive'. False if somebody else holds it. */
  flock(fd: number, mode: 'shared' | 'exclusive'): boolean;
  /** fallocate(2). Modes: FALLOC_FL_KEEP_SIZE 1, FALLOC_FL_PUNCH_HOLE 2, FALLOC_FL_ZERO_RANGE 16. Off the JavaScript thread. */
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void>;
  /** mkfifo(3). Paths and names are bytes, here and in the next two, and no link at the end of a path is followed. */
  makeFifo(path: Uint8Array, mode: number): void;
  /** lsetxattr(2). */
  setXattr(path: Uint8Array, name: Uint8Array, value: Uint8Array): void;
  /** utimensat(2), of access and modification. */
  setTimes(path: Uint8Array, seconds: number, nanoseconds: number): void;
  /** memfd_create(2): an empty file in memory, to be closed like any. `name` is for /proc. */
  memfd(name: string): number;
  /** BLKGETSIZE64 of a block device. */
  blockDeviceBytes(fd: number): number;
}

/** Path of the addon, for a thread that loads it as well. */
export const addonPath = (): string => nativeFile('kvm_addon.node');

/** Loads the addon; throws TSVM_ADDON with the loader's words and the one remedy. */
export function loadAddon(): NativeAddon {
  const path = addonPath();
  try {
    return createRequire(import.meta.url)(path) as NativeAddon;
  } catch (cause) {
    throw addonError(cause, path, nativeRemedy());
  }
}
