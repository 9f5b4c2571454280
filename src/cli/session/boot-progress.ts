/** A status line while a guest boots, for people at a terminal. */
import type { Machine } from '../../machine/machine.js';

const INTERVAL_MS = 1000;
const ERASE_LINE = '\r\x1b[2K';

/**
 * Says on stderr, once a second, that the guest is booting, until it prints something, starts its command or ends. Nothing
 * if stderr is no terminal. The returned function stops it and may be called twice.
 */
export function showBootProgress(machine: Machine): () => void {
  const { stderr } = process;
  if (!stderr.isTTY) return () => {};
  const startMs = Date.now();
  const why = machine.profile === 'pvm' ? ': this host interprets the guest’s kernel (tsvm doctor)' : '';
  let shown = false;
  const timer = setInterval(() => {
    shown = true;
    stderr.write(`${ERASE_LINE}tsvm: booting, ${Math.round((Date.now() - startMs) / 1000)} s${why}`);
  }, INTERVAL_MS);
  const stop = (): void => {
    clearInterval(timer);
    if (shown) stderr.write(ERASE_LINE);
    shown = false;
    for (const subscription of subscriptions) subscription[Symbol.dispose]();
  };
  const subscriptions = [
    machine.on('console', stop),
    machine.on('mark', ({ name }) => name === 'command' && stop()),
    machine.on('end', stop),
  ];
  return stop;
}
