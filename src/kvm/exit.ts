/**
 * Why a vCPU stopped: `struct kvm_run` as a discriminated union (Documentation/virt/kvm/api.rst, section 5).
 *
 * The objects are made once per vCPU and filled again at each exit, so that an exit allocates nothing. They are valid
 * until the vCPU runs again.
 *
 * @spec kvm-api 5  struct kvm_run  #yes
 */
import { KVM_EXIT } from './constants.js';

export interface IoExit {
  readonly kind: 'io';
  write: boolean;
  port: number;
  /** Bytes of one access: 1, 2 or 4. */
  size: number;
  /** Accesses: more than one for string instructions. */
  count: number;
  /** `size * count` bytes: what was written, or to be filled for a read. */
  data: Uint8Array;
}

export interface MmioExit {
  readonly kind: 'mmio';
  write: boolean;
  addr: number;
  data: Uint8Array;
}

export interface DebugExit {
  readonly kind: 'debug';
  exception: number;
  pc: bigint;
  dr6: bigint;
}

export interface InternalErrorExit {
  readonly kind: 'internal-error';
  suberror: number;
  /** The bytes at RIP that KVM could not emulate, if it says so; else empty. */
  instruction: Uint8Array;
}

export interface FailEntryExit {
  readonly kind: 'fail-entry';
  reason: bigint;
}

export interface SystemEventExit {
  readonly kind: 'system-event';
  type: number;
}

export type VcpuExit =
  | IoExit
  | MmioExit
  | DebugExit
  | InternalErrorExit
  | FailEntryExit
  | SystemEventExit
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'halted' }
  | { readonly kind: 'shutdown' }
  | { readonly kind: 'irq-window' }
  | { readonly kind: 'other'; reason: number };

const EXIT_REASON_OFFSET = 8;
const UNION_OFFSET = 32;
const INTERNAL_DATA_OFFSET = UNION_OFFSET + 8;
/** KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES. */
const FLAG_INSTRUCTION_BYTES = 1;

/** Makes the decoder of one vCPU's run page. */
export function createExitDecoder(runPage: ArrayBuffer): () => VcpuExit {
  const view = new DataView(runPage);
  const bytes = new Uint8Array(runPage);
  const mmioData = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((length) =>
    bytes.subarray(UNION_OFFSET + 8, UNION_OFFSET + 8 + length),
  );
  const none = new Uint8Array(0);
  const io: IoExit = { kind: 'io', write: false, port: 0, size: 1, count: 1, data: none };
  const mmio: MmioExit = { kind: 'mmio', write: false, addr: 0, data: none };
  const debug: DebugExit = { kind: 'debug', exception: 0, pc: 0n, dr6: 0n };
  const internalError: InternalErrorExit = { kind: 'internal-error', suberror: 0, instruction: none };
  const failEntry: FailEntryExit = { kind: 'fail-entry', reason: 0n };
  const systemEvent: SystemEventExit = { kind: 'system-event', type: 0 };
  const other: { kind: 'other'; reason: number } = { kind: 'other', reason: 0 };
  const interrupted = { kind: 'interrupted' } as const;
  const halted = { kind: 'halted' } as const;
  const shutdown = { kind: 'shutdown' } as const;
  const irqWindow = { kind: 'irq-window' } as const;
  let ioDataOffset = -1;
  let ioDataLength = 0;

  return () => {
    const reason = view.getUint32(EXIT_REASON_OFFSET, true);
    switch (reason) {
      case KVM_EXIT.KVM_EXIT_IO: {
        io.write = view.getUint8(UNION_OFFSET) === 1;
        io.size = view.getUint8(UNION_OFFSET + 1);
        io.port = view.getUint16(UNION_OFFSET + 2, true);
        io.count = view.getUint32(UNION_OFFSET + 4, true);
        const offset = view.getUint32(UNION_OFFSET + 8, true);
        const length = io.size * io.count;
        if (offset !== ioDataOffset || length !== ioDataLength) {
          io.data = bytes.subarray(offset, offset + length);
          ioDataOffset = offset;
          ioDataLength = length;
        }
        return io;
      }
      case KVM_EXIT.KVM_EXIT_MMIO:
        mmio.addr =
          view.getUint32(UNION_OFFSET, true) + view.getUint32(UNION_OFFSET + 4, true) * 0x1_0000_0000;
        mmio.data = mmioData[view.getUint32(UNION_OFFSET + 16, true)] ?? none;
        mmio.write = view.getUint8(UNION_OFFSET + 20) === 1;
        return mmio;
      case KVM_EXIT.KVM_EXIT_DEBUG:
        debug.exception = view.getUint32(UNION_OFFSET, true);
        debug.pc = view.getBigUint64(UNION_OFFSET + 8, true);
        debug.dr6 = view.getBigUint64(UNION_OFFSET + 16, true);
        return debug;
      case KVM_EXIT.KVM_EXIT_INTERNAL_ERROR: {
        internalError.suberror = view.getUint32(UNION_OFFSET, true);
        const words = view.getUint32(UNION_OFFSET + 4, true);
        const flags = view.getUint32(INTERNAL_DATA_OFFSET, true);
        const length = Math.min(15, view.getUint8(INTERNAL_DATA_OFFSET + 8));
        internalError.instruction =
          internalError.suberror === 1 && words >= 4 && (flags & FLAG_INSTRUCTION_BYTES) !== 0
            ? bytes.slice(INTERNAL_DATA_OFFSET + 9, INTERNAL_DATA_OFFSET + 9 + length)
            : none;
        return internalError;
      }
      case KVM_EXIT.KVM_EXIT_FAIL_ENTRY:
        failEntry.reason = view.getBigUint64(UNION_OFFSET, true);
        return failEntry;
      case KVM_EXIT.KVM_EXIT_SYSTEM_EVENT:
        systemEvent.type = view.getUint32(UNION_OFFSET, true);
        return systemEvent;
      case KVM_EXIT.KVM_EXIT_INTR:
        return interrupted;
      case KVM_EXIT.KVM_EXIT_HLT:
        return halted;
      case KVM_EXIT.KVM_EXIT_SHUTDOWN:
        return shutdown;
      case KVM_EXIT.KVM_EXIT_IRQ_WINDOW_OPEN:
        return irqWindow;
      default:
        other.reason = reason;
        return other;
    }
  };
}
