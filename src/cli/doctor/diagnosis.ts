/** Everything that `tsvm doctor` finds, as data and as text. */
import { tmpdir } from 'node:os';
import { cacheDirectory } from '../../host/cache-directory.js';
import { guestDirectory } from '../../host/guest-store.js';
import { HostTree } from '../../host/host-tree.js';
import { programPath } from '../../host/program-path.js';
import { templateDirectory } from '../../template/store.js';
import { AREAS, type Area, type Check } from './check.js';
import { checkDefaultGuest } from './guest-checks.js';
import { checkKvm, checkMemory, checkNode } from './machine-checks.js';
import { examineNeeds } from './needs.js';

export interface Diagnosis {
  /** Machines can be made here. */
  readonly usable: boolean;
  /** Containers can be made here, which need no KVM. */
  readonly containers: boolean;
  /** Host profile, and its limitations; absent without a KVM. */
  readonly profile?: string;
  readonly limitations?: readonly string[];
  /** Numbers of KVM's capabilities; empty without a KVM. */
  readonly capabilities: Readonly<Record<string, number>>;
  readonly checks: readonly Check[];
}

export async function diagnose(): Promise<Diagnosis> {
  const { checks: kvm, profile, capabilities } = checkKvm();
  const needs = examineNeeds({
    files: new HostTree(),
    program: programPath,
    uid: process.geteuid?.() ?? 0,
    folders: {
      templates: templateDirectory(),
      images: cacheDirectory('TSVM_IMAGE_DIR', 'images'),
      guests: guestDirectory(),
      'temporary files': tmpdir(),
    },
  });
  const checks = [checkNode(), ...kvm, checkMemory(), ...needs, await checkDefaultGuest()];
  return {
    usable: isUsable(checks, 'machines'),
    containers: isUsable(checks, 'containers'),
    ...(profile === undefined ? {} : { profile: profile.name, limitations: profile.limitations }),
    capabilities,
    checks,
  };
}

const isUsable = (checks: readonly Check[], area: Area): boolean =>
  checks.every((check) => check.area !== area || check.status !== 'no');

const MARKS = { yes: 'ok  ', no: 'FAIL', note: 'note' } as const;

/** The report for people. Details are wrapped at `columns`; fixes are not, since they are copied. */
export function render(
  { checks, usable, containers }: Diagnosis,
  columns = Number.POSITIVE_INFINITY,
): string {
  const indent = Math.max(...checks.map(({ name }) => name.length)) + 10;
  const next = `\n${' '.repeat(indent)}`;
  const areas = AREAS.filter((area) => checks.some((check) => check.area === area)).map((area) => {
    const lines = checks
      .filter((check) => check.area === area)
      .flatMap(({ name, status, detail, fix }) => [
        `  ${MARKS[status]}  ${name}`.padEnd(indent) + wrapped(detail, columns - indent).join(next),
        ...(fix === undefined ? [] : [`${' '.repeat(indent)}fix: ${fix}`]),
      ]);
    return `${area}\n${lines.join('\n')}\n`;
  });
  const machines = usable
    ? 'Machines can be made on this host.'
    : 'Machines cannot be made on this host yet: see FAIL above.';
  const others = containers
    ? usable
      ? 'Containers as well.'
      : 'Containers can, and need no KVM: tsvm run --isolation container -- COMMAND.'
    : 'Containers cannot: see FAIL above.';
  return `${areas.join('\n')}\n${machines}\n${others}\n`;
}

/** Lines of whole words, as long as the words allow. */
function wrapped(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line === undefined || line.length + 1 + word.length > columns) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines;
}
