/** Strings of requests, replies and records: bytes that each end in NUL. */
import { TsvmError } from '../errors.js';
import { MAX_REQUEST_BYTES } from './protocol.js';
import { Violation } from './violation.js';

/** Option of a request. */
export type RequestOption = readonly [name: string, value: string | number | Uint8Array];
/** Operand of a request; names and paths may be bytes that are no UTF-8. */
export type Operand = string | Uint8Array;

/** Bound of the fields of one reply: none has more than a dozen. */
const MAX_FIELDS = 64;
const NUL = Buffer.alloc(1);

/**
 * Writes a request.
 *
 * @throws TsvmError `TSVM_CONFIG` for a NUL in one of its strings, and for more bytes than a request takes.
 */
export function requestBytes(
  operation: string,
  options: readonly RequestOption[] = [],
  operands: readonly Operand[] = [],
): Buffer {
  const bytes = Buffer.concat([
    string(operation),
    ...options.map(([name, value]) => string(typeof value === 'object' ? value : `${value}`, `${name}=`)),
    NUL,
    ...operands.map((operand) => string(operand)),
  ]);
  if (bytes.length > MAX_REQUEST_BYTES)
    throw new TsvmError('TSVM_CONFIG', `${operation}: ${bytes.length} bytes of options and arguments`, {
      hint: `no more than ${MAX_REQUEST_BYTES} fit; put the rest into a file or standard input`,
    });
  return bytes;
}

function string(value: Operand, head = ''): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  if (bytes.includes(0))
    throw new TsvmError('TSVM_CONFIG', `there is a NUL in ${JSON.stringify(Buffer.from(bytes).toString())}`);
  return Buffer.concat([Buffer.from(head), bytes, NUL]);
}

/** Fields of a reply. What a reader asks for and is not there, or has another form, is a violation of the protocol. */
export class Reply {
  /** Values byte by byte: the code of each character is a byte. */
  readonly #fields = new Map<string, string>();

  constructor(payload: Buffer) {
    if (payload.length === 0) return;
    if (payload.at(-1) !== 0) throw new Violation('a reply that does not end in NUL');
    for (const text of payload.toString('latin1', 0, payload.length - 1).split('\0', MAX_FIELDS + 1)) {
      const [, name, value] = /^([a-z][a-z0-9-]{0,31})=(.*)$/s.exec(text) ?? [];
      if (name === undefined || value === undefined) throw new Violation('a field of a reply without a name');
      if (this.#fields.has(name)) throw new Violation(`a reply with two fields ${name}`);
      this.#fields.set(name, value);
    }
    if (this.#fields.size > MAX_FIELDS) throw new Violation('a reply with too many fields');
  }

  has(name: string): boolean {
    return this.#fields.has(name);
  }

  /** Decimal number from 0 to `most`. */
  number(name: string, most: number = Number.MAX_SAFE_INTEGER): number {
    return decimal(this.#value(name), name, most);
  }

  /** Text; what is no UTF-8 in it is replaced. */
  text(name: string): string {
    return this.bytes(name).toString();
  }

  bytes(name: string): Buffer {
    return Buffer.from(this.#value(name), 'latin1');
  }

  #value(name: string): string {
    const value = this.#fields.get(name);
    if (value === undefined) throw new Violation(`a reply without ${name}`);
    return value;
  }
}

/** Reads a decimal number of the agent's. */
export function decimal(text: string, name: string, most: number = Number.MAX_SAFE_INTEGER): number {
  const number = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number <= most)) throw new Violation(`${name} is no number from 0 to ${most}`);
  return number;
}

/** Splitter of a stream of strings, such as records. */
export class StringSplitter {
  readonly #mostBytes: number;
  /** Beginning of a string whose end has not come. */
  #begun: Buffer[] = [];
  #begunBytes = 0;

  /** @param mostBytes - bound of one string */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** Yields the strings that end in `bytes`, without their NUL. */
  *push(bytes: Buffer): Generator<Buffer> {
    let at = 0;
    for (let end = bytes.indexOf(0); end >= 0; end = bytes.indexOf(0, at)) {
      this.#keep(bytes.subarray(at, end));
      at = end + 1;
      const whole = this.#begun.length === 1 ? this.#begun[0] : Buffer.concat(this.#begun);
      this.#begun = [];
      this.#begunBytes = 0;
      yield whole ?? Buffer.alloc(0);
    }
    if (at < bytes.length) this.#keep(bytes.subarray(at));
  }

  /** Checks that no string was cut off. */
  end(): void {
    if (this.#begunBytes > 0) throw new Violation('a string that does not end in NUL');
  }

  #keep(piece: Buffer): void {
    this.#begunBytes += piece.length;
    if (this.#begunBytes > this.#mostBytes)
      throw new Violation(`a string of more than ${this.#mostBytes} bytes`);
    this.#begun.push(piece);
  }
}
