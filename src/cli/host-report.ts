/** `tsvm doctor --production`: what of this host weakens the wall around a machine, as text. */
import type { HostFinding } from '../host/production/host-checks.js';

const MARKS = { holds: 'ok  ', weak: 'WEAK', unknown: '?   ' } as const;

/** Tells whether every check passed; one that the host does not answer has not. */
export function isSolid(findings: readonly HostFinding[]): boolean {
  return findings.every(({ status }) => status === 'holds');
}

export function hostReport(findings: readonly HostFinding[]): string {
  const width = Math.max(...findings.map(({ id }) => id.length));
  const lines = findings.flatMap(({ id, status, detail, what, remedy }) => [
    `${MARKS[status]}  ${id.padEnd(width)}  ${detail}`,
    ...(remedy === undefined ? [] : [`      why: ${what}`, `      fix: ${remedy}`]),
  ]);
  const count = (status: HostFinding['status']): number =>
    findings.filter((finding) => finding.status === status).length;
  const verdict = isSolid(findings)
    ? 'Nothing of this host weakens the wall around its machines.'
    : `Of ${findings.length} checks ${count('weak')} found a weakness, and ${count('unknown')} could not be made.\ndocs/production.md explains each.`;
  return `${lines.join('\n')}\n\n${verdict}\n`;
}
