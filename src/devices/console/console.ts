/**
 * virtio-console: a terminal, named ports, or both. Without ports it is one terminal and does not offer MULTIPORT.
 *
 * @spec virtio-1.3 5.3    Console device               #yes
 * @spec virtio-1.3 5.3.3  VIRTIO_CONSOLE_F_SIZE        #yes
 * @spec virtio-1.3 5.3.3  VIRTIO_CONSOLE_F_MULTIPORT   #yes      with named ports
 * @spec virtio-1.3 5.3.3  VIRTIO_CONSOLE_F_EMERG_WRITE #no       the serial port serves for that
 * @spec virtio-1.3 5.3.6.2 Multiport device operation  #partial  ports are neither added nor removed later
 */
import assert from 'node:assert';
import { checkState, checkStateVersion } from '../../util/state.js';
import type { Chain } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { ConsoleInput, ConsolePort, PortHost } from '../backends/console.js';
import type { DeviceKind, DeviceRequest } from '../kind.js';
import {
  checkConsoleConfig,
  consoleHostUse,
  consolePaths,
  MAX_NAMED_PORTS,
  parsePorts,
  type VirtioConsoleConfig,
} from './config.js';
import {
  CONTROL_BYTES,
  ControlMessages,
  DUE,
  DUE_ALL,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
} from './control.js';
import { Port, type PortEvents } from './port.js';

const DEVICE_ID = 3;
const TERMINAL_QUEUE_SIZE = 64;
/** Linux fills a receive queue with pages as soon as it sees the port. */
const PORT_RECEIVE_QUEUE_SIZE = 16;
/** Linux puts a write of up to 32 KiB, or a splice of a pipe of 16 pages, into a buffer, and waits when the queue is full. */
const PORT_TRANSMIT_QUEUE_SIZE = 16;
const CONTROL_QUEUE_SIZE = 16;

// Queue indices (virtio 1.3, 5.3.2): port 0, control, port 1, port 2, ...
const RECEIVE = 0;
const TRANSMIT = 1;
const CONTROL_RECEIVE = 2;
const CONTROL_TRANSMIT = 3;
const receiveIndex = (port: number): number => (port === 0 ? RECEIVE : 2 * port + 2);

const VIRTIO_CONSOLE_F_SIZE = 1n << 0n;
const VIRTIO_CONSOLE_F_MULTIPORT = 1n << 1n;

// struct virtio_console_config (virtio 1.3, 5.3.4)
const CONFIG_BYTES = 12;
const CONFIG_COLS = 0;
const CONFIG_ROWS = 2;
const CONFIG_MAX_PORTS = 4;

/** Linux sends 32 KiB at most, a hostile driver 4 GiB. */
const TERMINAL_LIMITS = { transmitBytes: 64 * 1024 };
/** Of any queue: twice what a port takes of one buffer, whose rest is dropped and counted. */
const MAX_REQUEST_BYTES = 2 << 20;
/** Linux splices no more than a pipe holds: 1 MiB for an unprivileged program (/proc/sys/fs/pipe-max-size). */
const PORT_LIMITS = { transmitBytes: 1024 * 1024 };

export interface NamedPort {
  readonly name: string;
  readonly host: Pick<PortHost, 'onOutput' | 'onDrain' | 'onOpen' | 'release'>;
}

export interface ConsoleOptions {
  /** Takes what the guest printed, in order; absent: there is no terminal. The array is valid during the call only. */
  onOutput?(bytes: Uint8Array): void;
  /** There is room for input again after `input` took less than it was given. */
  onDrain?(): void;
  readonly columns?: number;
  readonly rows?: number;
  /** Ports 1 and up. */
  readonly ports?: readonly NamedPort[];
}

export class Console implements VirtioDevice, ConsoleInput {
  readonly name = 'console';
  readonly deviceId = DEVICE_ID;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly maxRequestBytes: readonly number[];
  readonly config: ConfigSpace;
  /** By their numbers: 0 is the terminal, the named ones follow. */
  readonly ports: readonly Port[];
  /** Control messages that were too short, about no port of ours, or of no known kind. */
  ignoredMessages = 0;
  readonly #hasTerminal: boolean;
  readonly #named: readonly NamedPort[];
  readonly #configView: DataView;
  readonly #control: ControlMessages;
  #context: VirtioContext | undefined;

  constructor(options: ConsoleOptions) {
    const named = options.ports ?? [];
    assert(named.length <= MAX_NAMED_PORTS, `console: ${named.length} ports`);
    this.#named = named;
    this.#hasTerminal = options.onOutput !== undefined;
    this.ports = [
      new Port(terminalEvents(options), TERMINAL_LIMITS),
      ...named.map(({ host }, i) => new Port(this.#portEvents(host, i + 1), PORT_LIMITS)),
    ];
    this.features = VIRTIO_CONSOLE_F_SIZE | (named.length > 0 ? VIRTIO_CONSOLE_F_MULTIPORT : 0n);
    const size = this.#hasTerminal ? TERMINAL_QUEUE_SIZE : PORT_RECEIVE_QUEUE_SIZE;
    this.queueSizes =
      named.length === 0
        ? [TERMINAL_QUEUE_SIZE, TERMINAL_QUEUE_SIZE]
        : [
            ...[size, size, CONTROL_QUEUE_SIZE, CONTROL_QUEUE_SIZE],
            ...named.flatMap(() => [PORT_RECEIVE_QUEUE_SIZE, PORT_TRANSMIT_QUEUE_SIZE]),
          ];
    this.maxRequestBytes = this.queueSizes.map(() => MAX_REQUEST_BYTES);
    const bytes = new Uint8Array(CONFIG_BYTES);
    this.config = { bytes };
    this.#configView = new DataView(bytes.buffer);
    this.#setSize(options.columns ?? 80, options.rows ?? 25);
    this.#configView.setUint32(CONFIG_MAX_PORTS, this.ports.length, true);
    this.#control = new ControlMessages(this.ports.length, (id) => ({
      name: named[id - 1]?.name ?? '',
      hostOpen: this.ports[id]?.hostOpen === true,
      columns: this.#configView.getUint16(CONFIG_COLS, true),
      rows: this.#configView.getUint16(CONFIG_ROWS, true),
    }));
  }

  #portEvents(host: NamedPort['host'], id: number): PortEvents {
    return {
      onOutput: (bytes) => host.onOutput(bytes),
      onDrain: () => host.onDrain(),
      onOpen: (open) => host.onOpen(open),
      onHostOpen: () => this.#tell(id, DUE.OPEN),
    };
  }

  /** Output that was beyond the limit of one buffer. */
  get droppedBytes(): number {
    return this.ports.reduce((sum, port) => sum + port.droppedBytes, 0);
  }

  activate(context: VirtioContext): void {
    this.#context = context;
    const count = this.#multiport ? this.ports.length : 1;
    for (let id = 0; id < count; id++) {
      this.ports[id]?.attach(context, receiveIndex(id));
    }
    // The one terminal of a driver without MULTIPORT is open from the start.
    if (!this.#multiport) this.#terminal.setGuestOpen(true);
  }

  get #multiport(): boolean {
    return ((this.#context?.features ?? 0n) & VIRTIO_CONSOLE_F_MULTIPORT) !== 0n;
  }

  get #terminal(): Port {
    return this.ports[0] as Port;
  }

  notify({ index }: Virtqueue): void {
    if (!this.#multiport) {
      if (index === TRANSMIT) this.#terminal.transmit();
      else if (index === RECEIVE) this.#terminal.receive();
    } else if (index === CONTROL_TRANSMIT) {
      this.#takeMessages();
    } else if (index === CONTROL_RECEIVE) {
      this.#sendMessages();
    } else {
      const port = this.ports[index < CONTROL_RECEIVE ? 0 : (index - 2) >> 1];
      if ((index & 1) === TRANSMIT) port?.transmit();
      else port?.receive();
    }
  }

  /** Input from the host's terminal. Returns how many bytes were taken. */
  input(bytes: Uint8Array): number {
    return this.#terminal.input(bytes);
  }

  /** The host's terminal changed its size. */
  resize(columns: number, rows: number): void {
    this.#setSize(columns, rows);
    // virtio 1.3, 5.3.6.2: with many ports, the size of a console comes in a message.
    if (this.#multiport) this.#tell(0, DUE.RESIZE);
    else this.#context?.configChanged();
  }

  #setSize(columns: number, rows: number): void {
    this.#configView.setUint16(CONFIG_COLS, columns, true);
    this.#configView.setUint16(CONFIG_ROWS, rows, true);
  }

  /** Messages from the driver. Each is answered before it is returned: then the answers are there when Linux goes on. */
  #takeMessages(): void {
    const queue = this.#context?.queues[CONTROL_TRANSMIT];
    if (queue === undefined) return;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      if (!this.#takeMessage(chain)) this.ignoredMessages++;
      this.#sendMessages();
      queue.complete(chain, 0);
    }
    queue.signal();
  }

  /** False for one that means nothing. */
  #takeMessage({ reader }: Chain): boolean {
    if (reader.length < CONTROL_BYTES) return false;
    const id = reader.readU32();
    const event = reader.readU16();
    const value = reader.readU16();
    if (event === VIRTIO_CONSOLE_DEVICE_READY) {
      // A value of 0 says that the driver could not set itself up, and goes.
      if (value === 1) for (const port of this.ports.keys()) this.#owe(port, DUE.ADD);
      return true;
    }
    if (this.ports[id] === undefined || (id === 0 && !this.#hasTerminal)) return false;
    switch (event) {
      case VIRTIO_CONSOLE_PORT_READY:
        if (value === 1) this.#owe(id, id === 0 ? DUE.CONSOLE | DUE.RESIZE | DUE.OPEN : DUE.NAME | DUE.OPEN);
        return true;
      case VIRTIO_CONSOLE_PORT_OPEN:
        this.ports[id].setGuestOpen(value !== 0);
        return true;
      default:
        return false;
    }
  }

  #owe(id: number, bits: number): void {
    if (id > 0 || this.#hasTerminal) this.#control.due[id] = (this.#control.due[id] ?? 0) | bits;
  }

  #tell(id: number, bits: number): void {
    if (!this.#multiport) return;
    this.#owe(id, bits);
    this.#sendMessages();
  }

  #sendMessages(): void {
    const context = this.#context;
    context?.enter(() => this.#control.send(context.queues[CONTROL_RECEIVE]));
  }

  reset(): void {
    this.#context = undefined;
    this.#control.clear();
    for (const port of this.ports) port.detach();
  }

  save(): DeviceState {
    return {
      version: 3,
      columns: this.#configView.getUint16(CONFIG_COLS, true),
      rows: this.#configView.getUint16(CONFIG_ROWS, true),
      due: [...this.#control.due],
      ports: this.ports.map((port) => port.save()),
    };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 3);
    const { columns, rows, due, ports } = state as { readonly [key: string]: unknown };
    checkState(isU16(columns) && isU16(rows), 'console: size');
    checkState(Array.isArray(due) && due.length === this.ports.length, 'console: messages due');
    checkState(
      due.every((bits) => isU16(bits) && bits <= DUE_ALL),
      'console: messages due',
    );
    checkState(Array.isArray(ports) && ports.length === this.ports.length, 'console: ports');
    this.#setSize(columns, rows);
    for (const [id, bits] of due.entries()) this.#owe(id, bits);
    for (const [id, port] of this.ports.entries()) {
      if (port.restore(ports[id], `console: port ${id}`)) this.#owe(id, DUE.OPEN);
    }
  }

  async close(): Promise<void> {
    this.reset();
    await Promise.all(this.#named.map(({ host }) => host.release?.()));
  }
}

function terminalEvents({ onOutput, onDrain }: ConsoleOptions): PortEvents {
  return {
    ...(onOutput && { onOutput: (bytes: Uint8Array) => void onOutput(bytes) }),
    ...(onDrain && { onDrain: () => onDrain() }),
  };
}

function isU16(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff;
}

/** Asks for a virtio-console: at the machine's terminal, with ports, or both. */
export function virtioConsole(config: VirtioConsoleConfig = {}): DeviceRequest {
  const checked = checkConsoleConfig(config);
  return {
    kind: 'console',
    config: { ...checked },
    async look(host) {
      for (const port of checked.ports ?? [])
        if (typeof port !== 'string' && port.path !== undefined) await host.portSocket(port.path);
    },
    async open(host) {
      const terminal: ConsolePort | undefined = checked.console === false ? undefined : host.openConsole();
      const ports: { name: string; host: PortHost }[] = [];
      try {
        for (const port of checked.ports ?? []) {
          ports.push(
            typeof port === 'string'
              ? { name: port, host: host.openPort(port) }
              : { name: port.name, host: await host.openPortSocket(port.name, port.path) },
          );
        }
      } catch (error) {
        await Promise.all(ports.map((port) => port.host.release?.()));
        throw error;
      }
      const device = new Console({
        ...(terminal && {
          onOutput: (bytes: Uint8Array) => terminal.onOutput(bytes),
          onDrain: () => terminal.onDrain(),
        }),
        ports,
      });
      terminal?.connect(device);
      for (const [i, port] of ports.entries()) port.host.connect(device.ports[i + 1] as Port);
      return device;
    },
  };
}

export const consoleKind: DeviceKind = {
  summary: 'named ports (/dev/vport*) of the guest, each a Unix socket of the host',
  guestKconfig: 'CONFIG_VIRTIO_CONSOLE',
  cliFlag: 'ports',
  cliArgument: 'NAME=SOCKET[,NAME=SOCKET ...]',
  fromCli: (text) => virtioConsole({ console: false, ports: parsePorts(text) }),
  fromConfig: (config) => virtioConsole(checkConsoleConfig(config)),
  paths: consolePaths,
  hostUse: consoleHostUse,
};
