/** Real guests for boot tests: which one, on what KVM, and a console that can be talked to. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { writeCpio } from '../../src/boot/cpio.js';
import { readHostFacts } from '../../src/host/host-facts.js';
import {
  createMachine,
  findGuest,
  type Machine,
  type MachineConfig,
  type MachineEnd,
} from '../../src/index.js';
import { detectProfile } from '../../src/kvm/profiles/registry.js';
import { S_IFREG } from '../../src/util/file-mode.js';
import { MIB } from '../../src/util/units.js';

/** Ring 0 is interpreted: a boot takes seconds, a decompressor minutes. */
export const interpreted: boolean = detectProfile(readHostFacts()).name === 'pvm';
export const inRig: boolean = process.env['TSVM_RIG'] !== undefined;
export const hostMemoryBytes: number = totalmem();

/** The least that the default guest boots in with room to spare: less memory is less to initialise. */
export const SMALL_MEMORY_BYTES: number = 64 * MIB;

/** Time that a guest may take to say what a test waits for. Less than the test's own timeout. */
const WAIT_MS = 100_000;

/** A directory for one file of tests, gone after the last. Call it at the top of the file or of a `describe`. */
export function temporaryDirectory(parent = tmpdir()): string {
  const directory = mkdtempSync(join(parent, 'tsvm-test-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The default guest in little memory. */
export async function guestConfig(more: MachineConfig = {}): Promise<MachineConfig> {
  return { ...(await findGuest()), memoryBytes: SMALL_MEMORY_BYTES, ...more };
}

/** The default guest's initramfs in `folder`, with files of the host's in its root, by their names there. */
export async function initramfsWith(
  folder: string,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const base = readFileSync((await findGuest()).initrd);
  const more = writeCpio(
    Object.entries(files).map(([path, source]) => ({
      path,
      mode: S_IFREG | 0o755,
      data: readFileSync(source),
    })),
  );
  const archive = join(folder, `initramfs-${Object.keys(files)[0]}.cpio`);
  writeFileSync(archive, Buffer.concat([base, Buffer.alloc((4 - (base.length % 4)) % 4), more]));
  return archive;
}

/** The same guest as `tsvm api` and `tsvm serve` take it. */
export async function firecrackerConfig() {
  const { kernel, initrd, cmdline } = await findGuest();
  return {
    'boot-source': {
      kernel_image_path: kernel,
      initrd_path: initrd,
      boot_args: `${cmdline} console=ttyS0`,
    },
    'machine-config': { vcpu_count: 1, mem_size_mib: SMALL_MEMORY_BYTES / MIB },
  };
}

/** Everything that a machine printed, and promises for what it will print. */
export class ConsoleLog {
  text = '';
  readonly #machine: Machine;
  readonly #waiting = new Set<() => void>();
  end: MachineEnd | undefined;

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.on('console', (bytes) => {
      this.text += Buffer.from(bytes).toString('latin1');
      for (const check of this.#waiting) check();
    });
    machine.on('end', (end) => {
      this.end = end;
      for (const check of this.#waiting) check();
    });
  }

  /** Resolves with the match as soon as the console shows it; rejects with the console when it never does. */
  waitFor(pattern: RegExp, from = 0, waitMs = WAIT_MS): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
      };
      const fail = (why: string): void => {
        settle();
        reject(new Error(`${why} while waiting for ${pattern}. The console:\n${this.text}`));
      };
      const check = (): void => {
        const match = pattern.exec(this.text.slice(from));
        if (match !== null) {
          settle();
          resolve(match);
        } else if (this.end !== undefined) {
          fail(`the machine ended (${JSON.stringify(this.end)})`);
        }
      };
      const timer = setTimeout(
        () => fail(`${waitMs} ms went by, the machine is ${this.#machine.state},`),
        waitMs,
      );
      this.#waiting.add(check);
      check();
    });
  }
}

/** Waits for a machine's end; what the console said is in the error if it does not come. */
export async function endOf(machine: Machine, log: ConsoleLog): Promise<MachineEnd> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`the machine did not end in ${WAIT_MS} ms. The console:\n${log.text}`)),
      WAIT_MS,
    );
  });
  try {
    return await Promise.race([machine.wait(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves at a boot mark of the guest. */
export function markOf(machine: Machine, name: string): Promise<void> {
  return new Promise((resolve) => {
    const mark = machine.on('mark', (event) => {
      if (event.name !== name) return;
      mark[Symbol.dispose]();
      resolve();
    });
  });
}

/** A booted guest whose shell takes lines from a test: one boot, many checks. */
export class Session {
  readonly machine: Machine;
  readonly log: ConsoleLog;
  #line = 0;

  private constructor(machine: Machine) {
    this.machine = machine;
    this.log = new ConsoleLog(machine);
  }

  /** Boots the default guest to a shell that reads its commands as a script, so it neither echoes nor prompts. */
  static async boot(more: MachineConfig = {}): Promise<Session> {
    const config = await guestConfig({
      ...more,
      command: { argv: ['sh', '/proc/self/fd/0'], tty: false },
    });
    const session = new Session(await createMachine(config));
    const listening = markOf(session.machine, 'command');
    await session.machine.start();
    const ended = session.machine.wait().then((end) => {
      throw new Error(
        `the guest ended (${JSON.stringify(end)}) before its shell. The console:\n${session.log.text}`,
      );
    });
    await Promise.race([listening, ended]);
    await session.run('true');
    return session;
  }

  /** Runs one line in the guest's shell: what it printed on both streams, and its status. */
  async run(command: string): Promise<{ readonly output: string; readonly status: number }> {
    const from = this.log.text.length;
    const id = ++this.#line;
    this.machine.console.write(Buffer.from(`{ ${command}\n} 2>&1; echo "<done ${id} $?>"\n`));
    const match = await this.log.waitFor(new RegExp(`<done ${id} (\\d+)>\n`), from);
    return {
      output: this.log.text.slice(from, from + match.index),
      status: Number(match[1]),
    };
  }

  /** Ends the shell, and with it the machine. */
  async exit(status: number): Promise<MachineEnd> {
    this.machine.console.write(Buffer.from(`exit ${status}\n`));
    return await endOf(this.machine, this.log);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.stop();
  }
}
