/** Finds a kernel's last words in its console output. */

const PANIC = 'Kernel panic - not syncing';
/** Enough for the longest message that is worth quoting. */
const MAX_LINE_CHARS = 256;

/**
 * Watches console output for a panic, so that the reboot that follows (`panic=-1`) is not taken for a wish. A guest that
 * prints such a line itself fools only its own exit status.
 */
export class PanicScanner {
  #tail = '';
  #found = false;

  push(bytes: Uint8Array): void {
    if (this.#found && this.#tail.length >= MAX_LINE_CHARS) return;
    const text = this.#tail + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    const at = this.#found ? 0 : text.indexOf(PANIC);
    this.#found = at >= 0;
    this.#tail = this.#found ? text.slice(at, at + MAX_LINE_CHARS) : text.slice(-(PANIC.length - 1));
  }

  /** The first panic's line, as far as it was printed. */
  get panic(): string | undefined {
    return this.#found ? this.#tail.split(/[\r\n]/, 1)[0] : undefined;
  }
}
