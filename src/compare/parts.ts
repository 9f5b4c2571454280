/** What a comparison has in it. */
export const COMPARE_PARTS = ['start', 'memory', 'isolation'] as const;
export type ComparePart = (typeof COMPARE_PARTS)[number];
