import type { MachineConfig } from './config.js';

/** `console=` for where the machine's console is; undefined if the command line names one itself, or is to name none. */
export function consoleParameter({
  cmdline = '',
  console = 'serial',
  namesConsole = true,
}: Pick<MachineConfig, 'cmdline' | 'console' | 'namesConsole'>): string | undefined {
  if (!namesConsole || /(^|\s)console=/.test(cmdline)) return undefined;
  return { serial: 'console=ttyS0', virtio: 'console=hvc0', none: undefined }[console];
}

/**
 * What devices want the guest's kernel to be told, each parameter from the first that asks, and none that the operator's command
 * line has.
 */
export function deviceParameters({
  cmdline = '',
  devices = [],
}: Pick<MachineConfig, 'cmdline' | 'devices'>): string[] {
  const parameters = new Map<string, string>();
  const ordinals = new Map<string, number>();
  for (const { kind, kernelParameter } of devices) {
    const ordinal = ordinals.get(kind) ?? 0;
    ordinals.set(kind, ordinal + 1);
    const parameter = kernelParameter?.(ordinal);
    if (parameter === undefined) continue;
    const name = parameter.slice(0, parameter.indexOf('=') + 1);
    if (!parameters.has(name) && !` ${cmdline}`.includes(` ${name}`)) parameters.set(name, parameter);
  }
  return [...parameters.values()];
}
