/** Faults of a request's body, in Firecracker's words. */
import type { z } from 'zod';

export function describeIssue(issue: z.core.$ZodIssue | undefined): string {
  const where = issue?.path.join('.') ?? '';
  if (issue?.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `unknown field \`${[...issue.path, key].join('.')}\``).join(', ');
  }
  if (issue?.code === 'invalid_union') {
    // Of the alternatives, the one that was meant is wrong in the fewest ways.
    const [meant] = issue.errors.toSorted((a, b) => a.length - b.length);
    const [first] = meant ?? [];
    if (first !== undefined) return describeIssue({ ...first, path: [...issue.path, ...first.path] });
  }
  if (
    issue?.code === 'invalid_type' &&
    issue.input === undefined &&
    /received undefined/.test(issue.message)
  ) {
    return `missing field \`${where}\``;
  }
  return where === '' ? `${issue?.message}` : `\`${where}\`: ${issue?.message}`;
}
