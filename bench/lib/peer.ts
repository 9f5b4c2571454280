/** The host's end of a connection: bench/guest/stream.c, in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const STREAM = fileURLToPath(new URL('../../stream', import.meta.url));

/** Started when it listens. */
export class Peer implements Disposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** @param prefix - what starts it: `ip netns exec` and a name */
  static async listen(
    kind: 'tcp' | 'vsock' | 'unix',
    address: string,
    port: number,
    prefix: readonly string[] = [],
  ): Promise<Peer> {
    const [program = STREAM, ...args] = [...prefix, STREAM, 'serve', kind, address, `${port}`];
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('close', (status) => reject(new Error(`${args.join(' ')} ended with ${status}`)));
    });
    return new Peer(child);
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
