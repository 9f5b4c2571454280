/** Errors of the library, which name its fields, in the words of another way to say them: options, the JSON of an API. */
import type { TsvmError } from '../errors.js';

export interface Words {
  /** Beginnings of messages, which name a field and some of them its value: `memoryBytes: `, `name `. */
  readonly heads: Readonly<Record<string, string>>;
  /** Code in a hint, as a library's user writes it. */
  readonly code: Readonly<Record<string, string>>;
}

/** Message and hint of an error. What has no other word stays. */
export function inWords(
  { message, hint }: TsvmError,
  { heads, code }: Words,
): { message: string; hint: string | undefined } {
  const [head, other] = Object.entries(heads).find(([start]) => message.startsWith(start)) ?? ['', ''];
  return {
    message: `${other}${message.slice(head.length)}`,
    hint: hint?.replace(/`([^`]+)`/g, (quoted, text: string) =>
      Object.hasOwn(code, text) ? (code[text] as string) : quoted,
    ),
  };
}
