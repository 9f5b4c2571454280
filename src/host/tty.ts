/** The operator's terminal: raw while a guest has it, always put back. */
import { spawnSync } from 'node:child_process';

/** Ctrl-A, as in QEMU, kvmtool and screen. */
const ESCAPE = 0x01;

export const ESCAPE_HELP = [
  'Ctrl-A h  this help',
  'Ctrl-A x  end the machine',
  'Ctrl-A s  save the machine (with --save)',
  'Ctrl-A Ctrl-A  send Ctrl-A to the guest',
].join('\r\n');

export type EscapeCommand = 'help' | 'exit' | 'save' | 'detach';

/** Splits what was typed into bytes for the guest and commands for tsvm. */
export class EscapeFilter {
  #escaped = false;

  push(bytes: Uint8Array, onCommand: (command: EscapeCommand) => void): Uint8Array {
    const kept: number[] = [];
    for (const byte of bytes) {
      if (!this.#escaped) {
        if (byte === ESCAPE) this.#escaped = true;
        else kept.push(byte);
        continue;
      }
      this.#escaped = false;
      const key = String.fromCharCode(byte).toLowerCase();
      if (byte === ESCAPE) kept.push(ESCAPE);
      else if (key === 'x') onCommand('exit');
      else if (key === 's') onCommand('save');
      else if (key === 'd') onCommand('detach');
      else if (key === 'h' || key === '?') onCommand('help');
      // any other key after Ctrl-A is swallowed, as a mistyped command
    }
    return Uint8Array.from(kept);
  }
}

/**
 * Puts stdin into raw mode if it is a terminal. The returned function puts it back; it may be called twice, and is called
 * by itself when the process exits.
 */
export function rawTerminal(stdin: NodeJS.ReadStream): () => void {
  if (!stdin.isTTY) return () => {};
  stdin.setRawMode(true);
  // Node's raw mode still turns every line feed into a carriage return and a line feed, which breaks a guest's editor.
  spawnSync('stty', ['-opost'], { stdio: [stdin, 'ignore', 'ignore'] });
  let restored = false;
  const restore = (): void => {
    if (restored) return;
    restored = true;
    process.removeListener('exit', restore);
    stdin.setRawMode(false);
  };
  process.on('exit', restore);
  return restore;
}
