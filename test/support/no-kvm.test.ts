import { test } from 'vitest';
import { kvmProblem } from './kvm-problem.js';
import { notHere } from './skip-reasons.js';

test('every test that needs a machine', ({ skip }) => skip(notHere(kvmProblem() ?? '')));
