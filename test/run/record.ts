/** Results of tests as a lane hands them over: lines of JSON with a mark before, among all else that tests print. */

export interface TestResult {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  readonly seconds: number;
  /** The reason of a skip, where the test gave one. */
  readonly note?: string;
  readonly errors?: readonly string[];
}

export interface FileResult {
  /** Path below test/: `boot/api.test.ts`. */
  readonly file: string;
  readonly seconds: number;
  readonly tests: readonly TestResult[];
  /** Errors outside of a test: in a hook, or while the file was loaded. */
  readonly errors: readonly string[];
}

export type LaneRecord =
  /** The lane takes files: a line of names with blanks between them, on its standard input. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'begin'; readonly file: string }
  | { readonly kind: 'end'; readonly result: FileResult };

const MARK = '\u001e';

export function formatRecord(record: LaneRecord): string {
  return `\n${MARK}${JSON.stringify(record)}\n`;
}

/** Parts a lane's output into records and other lines. */
export class RecordReader {
  #unfinished = '';
  readonly #onRecord: (record: LaneRecord) => void;
  readonly #onLine: (line: string) => void;

  constructor(onRecord: (record: LaneRecord) => void, onLine: (line: string) => void) {
    this.#onRecord = onRecord;
    this.#onLine = onLine;
  }

  /** @param text - the next piece, wherever it was cut */
  push(text: string): void {
    const lines = (this.#unfinished + text).split('\n');
    this.#unfinished = lines.pop() ?? '';
    for (const line of lines) this.#take(line);
  }

  /** Takes what came without a line's end. */
  end(): void {
    this.#take(this.#unfinished);
    this.#unfinished = '';
  }

  #take(line: string): void {
    if (line.startsWith(MARK)) {
      this.#onRecord(JSON.parse(line.slice(MARK.length)) as LaneRecord);
    } else if (line !== '') {
      this.#onLine(line);
    }
  }
}

export function failuresOf(result: FileResult): TestResult[] {
  const failed = result.tests.filter(({ state }) => state === 'failed');
  const { errors } = result;
  return errors.length === 0
    ? failed
    : [...failed, { name: '(the file)', state: 'failed', seconds: 0, errors }];
}
