/** A machine's console on this process's stdin and stdout. */
import { TsvmError } from '../../errors.js';
import { ESCAPE_HELP, EscapeFilter, rawTerminal } from '../../host/tty.js';
import type { Machine } from '../../machine/machine.js';

/** Guest output waiting for a slow reader, beyond which the machine pauses until it was read. */
const MAX_BUFFERED_BYTES = 1024 * 1024;
/** Ctrl-D: what a terminal sends for the end of input. */
const END_OF_INPUT = 0x04;
const CTRL_C = 0x03;
const NEWLINE = 0x0a;

export interface ConsoleOptions {
  /**
   * Hold input back until the guest's init says that it starts the command: before that, the guest's terminal would echo
   * or lose it. Ctrl-A x and Ctrl-C end the machine meanwhile.
   */
  readonly waitForCommand: boolean;
  /** Ctrl-A s. */
  onSave?(): void;
}

/** A machine that has ended needs neither pause nor resume. */
function ended(error: unknown): void {
  if (!(error instanceof TsvmError && error.code === 'TSVM_STATE')) throw error;
}

/** Connects them, the terminal in raw mode. The returned function undoes it and may be called twice. */
export function attachConsole(machine: Machine, options: ConsoleOptions): () => void {
  const { stdin, stdout } = process;
  const restore = rawTerminal(stdin);
  const filter = new EscapeFilter();
  let guestListens = !options.waitForCommand;
  let lastByte = NEWLINE;
  let detached = false;

  const output = machine.on('console', (bytes) => {
    if (stdout.write(bytes) || stdout.writableLength < MAX_BUFFERED_BYTES) return;
    if (machine.state !== 'running') return; // what is left after the end
    void machine.pause().catch(ended);
    stdout.once('drain', () => void machine.resume().catch(ended));
  });
  const onBrokenPipe = (): void => void machine.kill();
  const send = (bytes: Uint8Array): void => {
    lastByte = bytes[bytes.length - 1] ?? lastByte;
    if (machine.console.write(bytes)) return;
    stdin.pause();
    machine.console.onDrain(() => {
      if (!detached) stdin.resume();
    });
  };
  const onInput = (chunk: Buffer): void => {
    if (!stdin.isTTY) {
      send(chunk);
      return;
    }
    const bytes = filter.push(chunk, (command) => {
      if (command === 'exit') void machine.kill();
      else if (command === 'save') options.onSave?.();
      else process.stderr.write(`\r\n${ESCAPE_HELP}\r\n`);
    });
    if (guestListens) send(bytes);
    else if (bytes.includes(CTRL_C)) void machine.kill();
  };
  // In canonical mode a second Ctrl-D ends a line that has no newline.
  const onEnd = (): void =>
    send(Uint8Array.from(lastByte === NEWLINE ? [END_OF_INPUT] : [END_OF_INPUT, END_OF_INPUT]));
  const onResize = (): void => {
    machine.console.resize(stdout.columns, stdout.rows);
    machine.channel?.resize(stdout.rows, stdout.columns);
  };
  const listen = (): void => {
    stdin.on('data', onInput);
    stdin.once('end', onEnd);
  };

  stdout.on('error', onBrokenPipe);
  stdout.on('resize', onResize);
  // The command of a copy has the size of its original's terminal.
  if (guestListens && stdout.isTTY && machine.channel?.hasTerminal === true) onResize();
  const mark = machine.on('mark', ({ name }) => {
    if (name !== 'command' || guestListens || detached) return;
    guestListens = true;
    if (!stdin.isTTY) listen();
  });
  // Piped input stays unread until the guest listens; a terminal is read from the start, for the escape keys.
  if (guestListens || stdin.isTTY) listen();

  return () => {
    if (detached) return;
    detached = true;
    output[Symbol.dispose]();
    mark[Symbol.dispose]();
    stdin.removeListener('data', onInput);
    stdin.removeListener('end', onEnd);
    stdout.removeListener('error', onBrokenPipe);
    stdout.removeListener('resize', onResize);
    stdin.pause();
    restore();
  };
}
