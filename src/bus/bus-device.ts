/** What sits on the port or memory bus. */
import type { VersionedState } from '../util/state.js';

/**
 * Registers that the machine may serve without asking the device, so that the guest's access costs no JavaScript.
 * They are pure optimisation: `read` and `write` must give the same result without them.
 */
export type FastRegister =
  /** Reads of exactly `cell.length` bytes at `offset` are served from `cell`, which the device keeps current. */
  | { readonly kind: 'load'; readonly offset: number; readonly cell: Uint8Array }
  /** A 32-bit write at `offset` clears the written bits in `cell[0]`, atomically (write one to clear). */
  | { readonly kind: 'clear-bits'; readonly offset: number; readonly cell: Int32Array }
  /**
   * While `enabled[0]` is 1, single-byte writes at `offset` are gathered and handed to `onBytes` in batches, in order,
   * and always before the next access of any other register of the machine reaches JavaScript.
   */
  | {
      readonly kind: 'stream';
      readonly offset: number;
      readonly enabled: Uint8Array;
      onBytes(bytes: Uint8Array): void;
    }
  /**
   * A 32-bit write of `value` (or of anything, if undefined) at `offset` wakes `onWrite` later, and does not stop the vCPU
   * (an ioeventfd). Several writes may be told as one.
   */
  | {
      readonly kind: 'doorbell';
      readonly offset: number;
      readonly value: number | undefined;
      onWrite(): void;
    };

/**
 * A device at a range of ports or addresses. `offset` is relative to the range. The bus guarantees that the whole access
 * lies inside the range and that `data` has 1, 2, 4 or 8 bytes.
 */
export interface BusDevice {
  readonly name: string;
  /** Fills `data` with the register's bytes, little-endian. */
  read(offset: number, data: Uint8Array): void;
  /** A promise keeps the vCPU that wrote stopped until it settles. It must not reject. */
  write(offset: number, data: Uint8Array): void | Promise<void>;
  readonly fastRegisters?: readonly FastRegister[];
  /** Plain, JSON-serialisable state; absent if the device has none. */
  save?(): VersionedState;
  /** Takes what `save` gave, from a snapshot that may be hostile. @throws TsvmError `TSVM_STATE` */
  restore?(state: VersionedState): void;
}
