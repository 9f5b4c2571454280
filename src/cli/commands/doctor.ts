/** `tsvm doctor`: what this host can do, what is missing, and the command that fixes it. */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { TsvmError } from '../../errors.js';
import { findGuest } from '../../host/guest-store.js';
import { hostMemory, readHostFacts } from '../../host/host-facts.js';
import { programPath } from '../../host/program-path.js';
import { KVM_CAP, type KvmCapability } from '../../kvm/constants.js';
import { KVM_PATH, openKvm, REQUIRED_CAPABILITIES } from '../../kvm/kvm.js';
import type { HostProfile } from '../../kvm/profiles/profile.js';
import { detectProfile } from '../../kvm/profiles/registry.js';
import { loadAddon } from '../../native/binding.js';
import { packageFile } from '../../util/package-file.js';
import { formatBytes } from '../../util/units.js';

interface Check {
  readonly name: string;
  /** `no` keeps machines from being made; `note` is good to know. */
  readonly status: 'yes' | 'no' | 'note';
  readonly detail: string;
  /** The command or step that makes it right. */
  readonly fix?: string;
}

interface Diagnosis {
  readonly usable: boolean;
  readonly profile: string;
  readonly limitations: readonly string[];
  readonly capabilities: Readonly<Record<string, number>>;
  readonly checks: readonly Check[];
}

const EXAMPLES = `
Examples:
  tsvm doctor                a list for people
  tsvm doctor --json         the same for programs
  tsvm doctor --production   what weakens the wall around a machine here

Exit status: 0 if machines can be made here, 1 if not; with --production
0 if every check passed, 1 if one found a weakness or could not be made.`;

export function doctorCommand(): Command {
  return new Command('doctor')
    .summary('what this host can do, and how to fix what it cannot')
    .description('Look at KVM, permissions, host profile, build tools and the default guest.')
    .option('--json', 'print JSON')
    .option('--production', 'look at what of this host weakens the wall around a machine')
    .addHelpText('after', EXAMPLES)
    .action(async ({ json = false, production = false }: { json?: boolean; production?: boolean }) => {
      const { good, data, text } = production ? await examine() : diagnosed(await diagnose());
      process.stdout.write(json ? `${JSON.stringify(data, undefined, 2)}\n` : text);
      process.exitCode = good ? EXIT_CODES.ok : 1;
    });
}

interface Report {
  readonly good: boolean;
  /** Content of `--json`. */
  readonly data: unknown;
  readonly text: string;
}

const diagnosed = (diagnosis: Diagnosis): Report => ({
  good: diagnosis.usable,
  data: diagnosis,
  text: render(diagnosis),
});

async function examine(): Promise<Report> {
  const [{ examineHost }, { HostTree }, { hostReport, isSolid }] = await Promise.all([
    import('../../host/production/host-checks.js'),
    import('../../host/production/tree.js'),
    import('../host-report.js'),
  ]);
  const checks = examineHost(new HostTree(), new Date());
  const good = isSolid(checks);
  return { good, data: { solid: good, checks }, text: hostReport(checks) };
}

async function diagnose(): Promise<Diagnosis> {
  const profile = detectProfile(readHostFacts());
  const kvm = checkKvm();
  const checks = [
    checkNode(),
    ...kvm.checks,
    checkProfile(profile),
    checkMemory(),
    ...checkTools(),
    checkPasst(),
    await checkGuest(),
  ];
  return {
    usable: checks.every((check) => check.status !== 'no'),
    profile: profile.name,
    limitations: profile.limitations,
    capabilities: kvm.capabilities,
    checks,
  };
}

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  // zlib.crc32() came with 20.15 and 22.2; package.json has the same.
  const good = (major === 20 && minor >= 17) || (major === 22 && minor >= 2) || major > 22;
  const detail = `Node.js ${process.versions.node} on ${process.arch}`;
  return good
    ? { name: 'node', status: 'yes', detail }
    : {
        name: 'node',
        status: 'no',
        detail,
        fix: 'install Node.js 24, or another version from 20.17 or 22.2 on',
      };
}

function checkKvm(): { checks: Check[]; capabilities: Record<string, number> } {
  const checks: Check[] = [];
  const capabilities: Record<string, number> = {};
  let addon: ReturnType<typeof loadAddon>;
  try {
    addon = loadAddon();
    checks.push({ name: 'addon', status: 'yes', detail: 'the native addon loads' });
  } catch (error) {
    checks.push(failed('addon', error));
    return { checks, capabilities };
  }
  try {
    const kvm = openKvm(addon);
    try {
      for (const [name, number] of Object.entries(KVM_CAP)) capabilities[name] = kvm.checkExtension(number);
      const vm = kvm.createVm();
      vm.close();
    } finally {
      kvm.close();
    }
    checks.push({
      name: 'kvm',
      status: 'yes',
      detail: `${KVM_PATH} opens, API version 12, a machine can be created`,
    });
    const wanted = Object.keys(KVM_CAP) as KvmCapability[];
    const absent = wanted.filter(
      (name) => !REQUIRED_CAPABILITIES.includes(name) && (capabilities[name] ?? 0) <= 0,
    );
    checks.push(
      absent.length === 0
        ? { name: 'capabilities', status: 'yes', detail: `all ${wanted.length} that tsvm can use` }
        : { name: 'capabilities', status: 'note', detail: `without ${absent.join(', ')}` },
    );
    const cpus = capabilities['KVM_CAP_MAX_VCPUS'] ?? 0;
    checks.push({
      name: 'vcpus',
      status: 'yes',
      detail: `up to ${cpus} a machine in KVM, tsvm uses up to 64`,
    });
  } catch (error) {
    checks.push(failed('kvm', error));
  }
  return { checks, capabilities };
}

function failed(name: string, error: unknown): Check {
  const detail = error instanceof Error ? error.message : String(error);
  const fix = error instanceof TsvmError ? error.hint : undefined;
  return { name, status: 'no', detail, ...(fix === undefined ? {} : { fix }) };
}

function checkProfile(profile: HostProfile): Check {
  const detail = [`${profile.name}: ${profile.summary}`, ...profile.limitations].join('; ');
  return { name: 'profile', status: profile.limitations.length === 0 ? 'yes' : 'note', detail };
}

function checkMemory(): Check {
  const { totalBytes, availableBytes } = hostMemory();
  const detail = `${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} available for guests`;
  return { name: 'memory', status: 'yes', detail };
}

/** What `tsvm guest build` needs, by the Debian packages that its recipe names. */
function checkTools(): Check[] {
  const list = packageFile('guests/packages.txt');
  if (!existsSync(list)) return [];
  const packages = readFileSync(list, 'utf8')
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((name) => name !== '');
  if (!existsSync('/var/lib/dpkg/info')) {
    return [
      {
        name: 'guest tools',
        status: 'note',
        detail: `not a Debian host: building a guest needs ${packages.join(', ')} or their like`,
      },
    ];
  }
  const missing = packages.filter((name) => !isInstalled(name));
  if (missing.length === 0)
    return [{ name: 'guest tools', status: 'yes', detail: 'everything to build a guest is installed' }];
  return [
    {
      name: 'guest tools',
      status: 'note',
      detail: `to build a guest, these are missing: ${missing.join(', ')}`,
      fix: `apt-get install ${missing.join(' ')}`,
    },
  ];
}

function checkPasst(): Check {
  const found = programPath('passt');
  return found === undefined
    ? { name: 'passt', status: 'note', detail: 'not installed: no --net user', fix: 'apt-get install passt' }
    : { name: 'passt', status: 'yes', detail: `for --net user: ${found}` };
}

function isInstalled(debianPackage: string): boolean {
  const info = '/var/lib/dpkg/info';
  return [`${debianPackage}.list`, `${debianPackage}:amd64.list`].some((name) => {
    try {
      accessSync(join(info, name), constants.F_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function checkGuest(): Promise<Check> {
  try {
    const { version, directory } = (await findGuest()).build;
    return { name: 'default guest', status: 'yes', detail: `Linux ${version}, ${directory}` };
  } catch (error) {
    return { ...failed('default guest', error), status: 'note' };
  }
}

function render(diagnosis: Diagnosis): string {
  const width = Math.max(...diagnosis.checks.map((check) => check.name.length));
  const mark = { yes: 'ok  ', no: 'FAIL', note: 'note' } as const;
  const lines = diagnosis.checks.flatMap((check) => [
    `${mark[check.status]}  ${check.name.padEnd(width)}  ${check.detail}`,
    ...(check.fix === undefined ? [] : [`${''.padEnd(width + 6)}  fix: ${check.fix}`]),
  ]);
  const verdict = diagnosis.usable
    ? 'Machines can be made on this host.'
    : 'Machines cannot be made on this host yet: see FAIL above.';
  return `${lines.join('\n')}\n\n${verdict}\n`;
}
