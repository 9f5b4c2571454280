import { test } from 'vitest';
import { kvmProblem } from './kvm-problem.js';

test.skip(`every test that needs a machine: ${kvmProblem()}`, () => undefined);
