/** Checks of what every machine needs: Node.js, the addon, KVM, memory. */
import { isErrnoError, TsvmError } from '../../errors.js';
import { hostMemory, readHostFacts } from '../../host/facts.js';
import type { KvmFailure } from '../../host/kvm/facts.js';
import { probeKvm, whyNoKvm } from '../../host/kvm/open.js';
import { KVM_CAP, type KvmCapability } from '../../kvm/constants.js';
import { KVM_PATH, kvmCall, openKvm, REQUIRED_CAPABILITIES } from '../../kvm/kvm.js';
import type { HostProfile } from '../../kvm/profiles/profile.js';
import { detectProfile } from '../../kvm/profiles/registry.js';
import { loadAddon, type NativeAddon } from '../../native/binding.js';
import { formatBytes } from '../../util/units.js';
import { inFlags } from '../flags.js';
import { type Check, has, type Verdict } from './check.js';

/** Findings about KVM. */
export interface KvmReport {
  readonly checks: readonly Check[];
  readonly capabilities: Readonly<Record<string, number>>;
  /** Absent without a KVM: it is how one is used. */
  readonly profile?: HostProfile;
}

const named = (name: string, verdict: Verdict): Check => ({ area: 'machines', name, ...verdict });

/** The check that an error ends. */
export function failed(name: string, error: unknown): Check {
  if (!(error instanceof TsvmError))
    return named(name, { status: 'no', detail: error instanceof Error ? error.message : String(error) });
  const { message: detail, hint: fix } = inFlags(error);
  return named(name, { status: 'no', detail, ...(fix === undefined ? {} : { fix }) });
}

export function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  // zlib.crc32() came with 20.15 and 22.2; package.json has the same.
  const good = (major === 20 && minor >= 17) || (major === 22 && minor >= 2) || major > 22;
  const detail = `Node.js ${process.versions.node} on ${process.arch}`;
  const fix = 'install Node.js 24, or another version from 20.17 or 22.2 on';
  return named('node', good ? has(detail) : { status: 'no', detail, fix });
}

export function checkMemory(): Check {
  const { totalBytes, availableBytes } = hostMemory();
  return named(
    'memory',
    has(`${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} available for guests`),
  );
}

export function checkKvm(): KvmReport {
  let addon: NativeAddon;
  try {
    addon = loadAddon();
  } catch (error) {
    const refusal = probeKvm();
    const kvm = refusal === undefined ? [] : [withoutKvm(refusal)];
    return { checks: [failed('addon', error), ...kvm], capabilities: {} };
  }
  const loaded = named('addon', has('the native addon loads'));
  try {
    const capabilities = readCapabilities(addon);
    const profile = detectProfile(readHostFacts());
    return { checks: [loaded, ...kvmChecks(capabilities), checkProfile(profile)], capabilities, profile };
  } catch (error) {
    const check = isErrnoError(error) ? withoutKvm(error) : failed('kvm', error);
    return { checks: [loaded, check], capabilities: {} };
  }
}

/** Reads every capability's number, from a KVM that makes a machine. */
function readCapabilities(addon: NativeAddon): Record<string, number> {
  const kvm = openKvm(addon);
  try {
    kvmCall('create a virtual machine', () => kvm.createVm()).close();
    return Object.fromEntries(
      Object.entries(KVM_CAP).map(([name, number]) => [name, kvm.checkExtension(number)]),
    );
  } finally {
    kvm.close();
  }
}

function kvmChecks(capabilities: Readonly<Record<string, number>>): Check[] {
  const wanted = Object.keys(KVM_CAP) as KvmCapability[];
  const absent = wanted.filter(
    (name) => !REQUIRED_CAPABILITIES.includes(name) && (capabilities[name] ?? 0) <= 0,
  );
  const cpus = capabilities['KVM_CAP_MAX_VCPUS'] ?? 0;
  return [
    named('kvm', has(`${KVM_PATH} opens, API version 12, a machine can be created`)),
    named(
      'capabilities',
      absent.length === 0
        ? has(`all ${wanted.length} that tsvm can use`)
        : { status: 'note', detail: `without ${absent.join(', ')}` },
    ),
    named('vcpus', has(`up to ${cpus} a machine in KVM, tsvm uses up to 64`)),
  ];
}

function checkProfile({ name, summary, limitations }: HostProfile): Check {
  const detail = [`${name}: ${summary}`, ...limitations].join('; ');
  return named('profile', { status: limitations.length === 0 ? 'yes' : 'note', detail });
}

function withoutKvm(failure: KvmFailure): Check {
  const { id, detail, remedy } = whyNoKvm(failure);
  return named('kvm', { status: 'no', detail: `cannot open ${KVM_PATH}: ${detail}`, cause: id, fix: remedy });
}
