/** Kinds of devices, by which they are named, asked for and made. */
import type { VirtioDevice } from '../virtio/device.js';
import type { Host, HostLook } from './backends/host.js';
import type { HostUse } from './host-slot.js';

/** A device that a machine shall have: what `rng()` and `blk({ path })` return. */
export interface DeviceRequest<Kind extends string = string> {
  /** Key of its kind among the device kinds. */
  readonly kind: Kind;
  /**
   * All that its kind's `fromConfig` needs to make this request again, JSON-serialisable. A machine with a device that has
   * none cannot be saved.
   */
  readonly config?: Readonly<Record<string, unknown>>;
  /**
   * Parameter by which the guest's kernel is told of it. `ordinal`: how many devices of its kind come before. A command line that has
   * the parameter already keeps its own.
   */
  readonly kernelParameter?: (ordinal: number) => string;
  /** Looks at the files and sockets of the host that it names; absent if it names none. @throws TsvmError as `open` would. */
  look?(host: HostLook): Promise<void>;
  /** Opens what the device needs of the host. @throws TsvmError when that fails. */
  open(host: Host): Promise<VirtioDevice>;
}

/** Path of the host that a device's configuration names. */
export interface HostPath {
  readonly path: string;
  /** `socket`: a Unix socket that is made there; of a vsock, also those beside it, `PATH_PORT`. */
  readonly type: 'file' | 'folder' | 'socket';
  /** True if the guest may change what is there. */
  readonly isWritten: boolean;
}

/** One kind of device. Everything outside the device's own file derives from this row. */
export interface DeviceKind {
  /** For help: what it is, in a line. */
  readonly summary: string;
  /** The guest kernel's option that its driver needs. */
  readonly guestKconfig: string;
  /** Option on the command line, without the dashes; undefined if it has none to itself. */
  readonly cliFlag?: string;
  /** A machine may have several. */
  readonly cliRepeatable?: boolean;
  /** The option's argument, empty for a plain switch. */
  readonly cliArgument: string;
  /** @throws TsvmError `TSVM_USAGE` */
  fromCli(text: string): DeviceRequest;
  /**
   * Makes a request again from its `config`, which is not trusted.
   *
   * @throws TsvmError `TSVM_CONFIG`, naming the field.
   */
  fromConfig(config: unknown): DeviceRequest;
  /** Lists the paths that a configuration names. @throws TsvmError `TSVM_CONFIG` */
  paths(config: unknown): readonly HostPath[];
  /** Use of the host that its configurations make; undefined if they name nothing of it. */
  readonly hostUse: HostUse | undefined;
}
