/** Tell the test what came: a line of JSON each. */
export function say(type, data) {
  process.stdout.write(`${JSON.stringify({ type, message: data.message ?? null, at: data.updated_at })}\n`);
}
