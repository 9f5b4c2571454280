/**
 * Slots: names for what a device's configuration uses of the host, so that the operator binds each by its name.
 *
 * A saved configuration is data, and data opens nothing: what it says of the host is a wish, which `tsvm restore` shows, and which counts
 * only if the operator names the same.
 */
import { TsvmError } from '../errors.js';

/** Thing of the host that a slot is bound to, in the fields of the device's configuration: `{ path: '/srv/root.img' }`. */
export type Binding = Readonly<Record<string, unknown>>;

/** A slot of one device. */
export interface HostSlot {
  /** Name that is unique in a machine: `disk 0`, `share src`, `net 0`, `port log`, `vsock`. */
  readonly name: string;
  /** Part of the name that tells it from others of its kind, as the command line has it before `=`; empty if there is but one. */
  readonly key: string;
  /** Wish of the configuration; absent if it names nothing: the slot may be bound, and need not. */
  readonly wish?: Binding;
  /** Rights that a request of the operator's says in addition, and that a saved configuration cannot. */
  readonly rights?: Binding;
}

export interface SlotBinding {
  readonly slot: string;
  readonly binding: Binding;
}

/** Use that devices of a kind make of the host. Fields that are not of a binding are the guest's, which data may decide. */
export interface HostUse {
  /** Argument of the kind's option where slots are bound: `N=PATH`. */
  readonly cliArgument: string;
  /**
   * Exemption of what lies in a snapshot's own folder, which need not be named: true for files and folders. A socket leads to another
   * program, and by the links beside it to others.
   */
  readonly ownFolder: boolean;
  /** Fields of a binding that are paths. */
  readonly pathFields: readonly string[];
  /** Slots of a configuration. `ordinal`: how many devices of the kind come before. @throws TsvmError `TSVM_CONFIG` */
  slots(config: unknown, ordinal: number): readonly HostSlot[];
  /**
   * The configuration with a slot bound. Where both say what the guest may do, the lesser counts.
   *
   * @throws TsvmError `TSVM_CONFIG` for a binding that does not fit what the guest knows of its device.
   */
  bind(config: unknown, slot: string, binding: unknown): Binding;
  /** Words for what a binding opens: `the folder /srv/src, to read and write`. `show` makes a text of the wish's fit to be shown. */
  describe(binding: Binding, show: (text: string) => string): string;
  /** Text of the option that makes this binding; undefined if the command line's grammar cannot say it. */
  toCli(slot: HostSlot, binding: Binding): string | undefined;
  /** @throws TsvmError `TSVM_USAGE`, naming the part that is wrong. */
  fromCli(text: string): readonly SlotBinding[];
}

/** Copies a binding with each of its paths changed. */
export function mapPaths(
  { pathFields }: HostUse,
  binding: Binding,
  change: (path: string) => string,
): Binding {
  return Object.fromEntries(
    Object.entries(binding).map(([field, value]) => [
      field,
      pathFields.includes(field) && typeof value === 'string' ? change(value) : value,
    ]),
  );
}

/** Splits `0=PATH`. @throws TsvmError `TSVM_USAGE` */
export function numberedSlot(flag: string, text: string, example: string): [ordinal: number, rest: string] {
  const match = /^(\d{1,4})=(.*)$/s.exec(text);
  if (match !== null) return [Number(match[1]), match[2] ?? ''];
  throw new TsvmError('TSVM_USAGE', `--${flag} ${text}: it does not say which of the saved machine's`, {
    hint: `count from 0, for example: --${flag} ${example}`,
  });
}

/**
 * Refuses what a binding says of the guest's side, unless it says the same as the saved configuration. `false` says nothing.
 *
 * @throws TsvmError `TSVM_CONFIG`
 */
export function refuseOther(slot: string, saved: object, given: object, ofHost: readonly string[]): void {
  for (const [name, value] of Object.entries(given)) {
    if (ofHost.includes(name) || value === undefined || value === false) continue;
    if (value !== (saved as Record<string, unknown>)[name]) {
      throw new TsvmError('TSVM_CONFIG', `${slot}: its ${name} is what the guest knows it by, and stays`, {
        hint: `leave ${name} out`,
      });
    }
  }
}

/** Checks that no text has a comma, with which the options' grammar would take it for two. */
export function withoutCommas(parts: readonly unknown[]): boolean {
  return parts.every((part) => typeof part !== 'string' || !part.includes(','));
}
