import { readFileSync } from 'node:fs';
import { missingProgram, notHere } from './skip-reasons.js';

/** Reason why passt cannot run here, if it cannot. It needs a default route, of which it takes nothing but the interface. */
export function passtProblem(): string | undefined {
  const missing = missingProgram('passt');
  if (missing !== undefined) return missing;
  const routes = readFileSync('/proc/net/route', 'latin1').split('\n');
  return routes.some((line) => line.split('\t')[1] === '00000000')
    ? undefined
    : notHere('there is no default route');
}
