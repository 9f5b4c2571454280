/** What the probe saw, and what that says: how much of the host is to be seen and reached from behind a wall. */

/** `kind name` to value, as kvm-addon/probe/probe.c says them. */
export type Facts = ReadonlyMap<string, string>;

export function parseFacts(output: string): Facts {
  const rows = output.split('\n').flatMap((line): [string, string][] => {
    const tab = line.indexOf('\t');
    return tab < 0 ? [] : [[line.slice(0, tab), line.slice(tab + 1)]];
  });
  return new Map(rows);
}

/** `wall`: held back, or the guest's own. `open`: the host's. `note`: neither good nor bad by itself. */
export interface Finding {
  readonly text: string;
  readonly verdict: 'wall' | 'open' | 'note';
}

export interface Question {
  readonly title: string;
  /** `host` is what the probe saw outside of every wall. */
  answer(facts: Facts, host: Facts): Finding;
}

const EPERM = '-1';
const ENOSYS = '-38';
const ALL_CAPABILITIES = 41;

const wall = (text: string): Finding => ({ text, verdict: 'wall' });
const open = (text: string): Finding => ({ text, verdict: 'open' });
const note = (text: string): Finding => ({ text, verdict: 'note' });
const isOwnKernel = (facts: Facts, host: Facts): boolean => facts.get(BOOT_ID) !== host.get(BOOT_ID);
const BOOT_ID = 'line /proc/sys/kernel/random/boot_id';

/** Of what is the host's only if the kernel is. */
function ofKernel(
  title: string,
  answer: (facts: Facts, host: Facts) => { readonly text: string; readonly held: boolean },
): Question {
  return {
    title,
    answer(facts, host) {
      const { text, held } = answer(facts, host);
      if (isOwnKernel(facts, host)) return wall(`${text} (its own kernel’s)`);
      return held ? wall(text) : open(text);
    },
  };
}

export const QUESTIONS: readonly Question[] = [
  {
    title: 'kernel',
    answer(facts, host) {
      const release = facts.get('line /proc/sys/kernel/osrelease') ?? '?';
      return isOwnKernel(facts, host) ? wall(`${release}, its own`) : open(`${release}, the host’s`);
    },
  },
  ofKernel('reads the kernel’s log', (facts) => {
    const [device, call] = [facts.get('opens /dev/kmsg'), facts.get('call syslog')];
    const held = device !== '0' && Number(call) < 0;
    return { text: held ? 'no' : 'yes', held };
  }),
  ofKernel('sees the kernel’s addresses', (facts) => {
    const [address = ''] = (facts.get('line /proc/kallsyms') ?? '').split(' ');
    const held = !/[1-9a-f]/.test(address) || address.startsWith('-');
    return { text: held ? 'no' : 'yes', held };
  }),
  ofKernel('capabilities', (facts) => {
    const bits = BigInt(`0x${facts.get('status CapEff') || '0'}`);
    const count = bits.toString(2).replaceAll('0', '').length;
    return { text: `${count} of ${ALL_CAPABILITIES}`, held: count <= 14 };
  }),
  {
    title: 'capabilities reach',
    answer(facts, host) {
      if (isOwnKernel(facts, host)) return wall('its own kernel');
      const own = facts.get('link /proc/self/ns/user') !== host.get('link /proc/self/ns/user');
      return own ? wall('its user namespace') : open('the host');
    },
  },
  ofKernel('system calls are filtered', (facts) => {
    const filtered = facts.get('status Seccomp') === '2';
    return { text: filtered ? 'yes' : 'no', held: filtered };
  }),
  ofKernel('answers calls that few programs make', (facts) => {
    const answered = [...facts]
      .filter(([key, value]) => key.startsWith('call ') && value !== EPERM && value !== ENOSYS)
      .map(([key]) => key.slice('call '.length));
    return { text: answered.length === 0 ? 'none' : few(answered), held: answered.length === 0 };
  }),
  ofKernel('writes the kernel’s knobs', (facts) => {
    const names = namesOf(facts, 'writable').map((path) => path.slice(path.lastIndexOf('/') + 1));
    return { text: names.length === 0 ? 'none' : few(names), held: names.length === 0 };
  }),
  {
    title: 'namespaces of its own',
    answer(facts, host) {
      const links = [...facts.keys()].filter((key) => key.startsWith('link /proc/self/ns/'));
      const shared = links.filter((key) => facts.get(key) === host.get(key) && !isOwnKernel(facts, host));
      if (isOwnKernel(facts, host)) return wall('all: its own kernel’s');
      const names = shared.map((key) => key.slice(key.lastIndexOf('/') + 1));
      return names.length === 0 ? wall('all') : open(`all but ${few(names)}`);
    },
  },
  {
    title: 'opens devices of the host',
    answer(facts, host) {
      const names = namesOf(facts, 'opens').filter((name) => name !== '/dev/kmsg' && name !== '/proc/kcore');
      if (names.length === 0) return wall('none');
      return isOwnKernel(facts, host) ? wall(`${names.join(', ')} (its own)`) : open(names.join(', '));
    },
  },
  ofKernel('sees the host’s disks', (facts) => {
    const disks = Math.max(0, Number(facts.get('lines /proc/partitions')) - 2);
    return { text: disks === 0 ? 'none' : `${disks} in /proc/partitions`, held: disks === 0 };
  }),
  ofKernel('sockets of container engines', (facts) => {
    const names = namesOf(facts, 'there');
    return { text: names.length === 0 ? 'none' : names.join(', '), held: names.length === 0 };
  }),
  {
    title: 'network interfaces',
    answer(facts) {
      const count = Number(facts.get('names /sys/class/net'));
      return note(count < 0 ? 'not to be seen' : String(count));
    },
  },
];

/** Some of them by name, for a table. */
function few(names: readonly string[]): string {
  return names.length <= FEW
    ? names.join(', ')
    : `${names.slice(0, FEW - 1).join(', ')} and ${names.length - FEW + 1} more`;
}

const FEW = 3;

/** What of a kind the probe was allowed: `opens /dev/mem` with 0. */
function namesOf(facts: Facts, kind: string): string[] {
  return [...facts]
    .filter(([key, value]) => key.startsWith(`${kind} /`) && value === '0')
    .map(([key]) => key.slice(kind.length + 1));
}
