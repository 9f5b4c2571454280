/** Amount that a property test does: always the same, or many times that with a seed that nobody has seen (`npm run fuzz`). */
const FACTOR = Number(process.env['TSVM_FUZZ_FACTOR'] ?? '0');

/** Parameters for fc.assert(), which prints the seed of what fails. */
export function budget(numRuns: number, seed: number): { numRuns: number; seed?: number } {
  return FACTOR > 0 ? { numRuns: numRuns * FACTOR } : { numRuns, seed };
}

/** A test's time, as it is usually. */
export function patience(ms: number): number {
  return ms * Math.max(1, FACTOR);
}
