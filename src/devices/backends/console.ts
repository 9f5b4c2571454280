/** The two sides of a console and of a port: the device's and the host's. */

/** The device's side of a console: where the host puts what was typed. */
export interface ConsoleInput {
  /** Returns how many bytes were taken; after less than all, the port's `onDrain` tells when to go on. */
  input(bytes: Uint8Array): number;
  resize(columns: number, rows: number): void;
}

/** The host's side of a console. */
export interface ConsolePort {
  /** Takes what the guest printed, in order. The array is valid during the call only. */
  onOutput(bytes: Uint8Array): void;
  /** There is room for input again. */
  onDrain(): void;
  /** Called once, by the device. */
  connect(input: ConsoleInput): void;
}

/** The device's side of a port. */
export interface PortControl {
  /** Returns how many bytes were taken; after less than all, the port's `onDrain` tells when to go on. */
  input(bytes: Uint8Array): number;
  /**
   * The host has done with the port, for good: what the guest reads ends after all input that was taken, and what it
   * writes goes nowhere.
   */
  close(): void;
  /** Output is welcome again after `onOutput` refused. */
  resumeOutput(): void;
  /**
   * Somebody is at the host's side of the port now, as there is at first, or nobody. What the guest writes
   * waits meanwhile, and its programs can tell (virtio 1.3, 5.3.6.2, VIRTIO_CONSOLE_PORT_OPEN).
   */
  setHostOpen(open: boolean): void;
}

/** The host's side of a port: a stream of bytes each way between a program in the guest and the host. */
export interface PortHost {
  /**
   * Takes what the guest wrote, in order. The array is valid during the call only. False: enough for now; apart from the rest of
   * the guest's current buffer nothing more comes until `resumeOutput`.
   */
  onOutput(bytes: Uint8Array): boolean;
  /** There is room for input again. */
  onDrain(): void;
  /** A program in the guest opened the port, or closed it. */
  onOpen(open: boolean): void;
  /** Called once, by the device. */
  connect(control: PortControl): void;
  /** The device goes. */
  release?(): Promise<void>;
}
