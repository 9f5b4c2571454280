/** Values on the command line: sizes, durations, counts. */
import { TsvmError } from '../errors.js';
import { MAX_TIMER_MS } from '../util/timer.js';
import { MIB, parseBytes } from '../util/units.js';

/** Reads a size as {@link parseBytes} does. @throws TsvmError `TSVM_USAGE` for what is none. */
export function parseSize(flag: string, text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined) throw badValue(flag, text, 'a size', '256M or 1G');
  return bytes;
}

/** Reads a size of memory as {@link parseSize} does, but refuses a bare number of less than a MiB: it was meant in some unit. */
export function parseMemory(flag: string, text: string): number {
  const bytes = parseSize(flag, text);
  if (bytes > 0 && bytes < MIB && /^[\d.]+$/.test(text.trim())) {
    throw new TsvmError('TSVM_USAGE', `${flag}: '${text}' has no unit, and is a number of bytes`, {
      hint: `for example: ${flag} ${text.trim()}M`,
    });
  }
  return bytes;
}

/** `60s`, `500ms`, `2m`; a bare number is seconds. Milliseconds. */
export function parseDuration(flag: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|)$/.exec(text.trim());
  if (match === null) throw badValue(flag, text, 'a duration', '60s, 500ms or 2m');
  const unitMs = { ms: 1, s: 1000, '': 1000, m: 60_000, h: 3_600_000 }[
    match[2] as 'ms' | 's' | 'm' | 'h' | ''
  ];
  const ms = Math.round(Number(match[1]) * unitMs);
  if (ms < 1 || ms > MAX_TIMER_MS)
    throw badValue(flag, text, 'a duration of 1ms to 24 days', '60s, 500ms or 2m');
  return ms;
}

/** A whole number in a range. */
export function parseCount(flag: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text.trim()) || value < min || value > max) {
    throw badValue(flag, text, `a whole number from ${min} to ${max}`, String(min));
  }
  return value;
}

/** One of a few words. */
export function parseChoice<Choice extends string>(
  flag: string,
  text: string,
  choices: readonly Choice[],
): Choice {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw badValue(flag, text, `one of ${choices.join(', ')}`, choices[0] ?? '');
  return found;
}

function badValue(flag: string, text: string, expected: string, example: string): TsvmError {
  return new TsvmError('TSVM_USAGE', `${flag}: '${text}' is not ${expected}`, {
    hint: `for example: ${flag} ${example}`,
  });
}
