/**
 * Every error a visitor can meet.
 *
 * A message names the thing, what was expected and what was found, on one line.
 */

/** Base of all errors raised on purpose by the page. */
export class EmbarchiveError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** An argument or a query that cannot be used as given. */
export class BadInput extends EmbarchiveError {}

/** No pointer at the root, or one that is not an `embarchive` pointer. */
export class NotAnArchive extends EmbarchiveError {}

/** A format object of another version than the ones this page reads. */
export class UnknownVersion extends EmbarchiveError {}

/** Bytes whose length, hash or structure is not what the manifest promises. */
export class Damaged extends EmbarchiveError {}

/** An object the manifest names is not on the store. */
export class Missing extends EmbarchiveError {}

/** An object of the pinned generation was collected; open the archive again. */
export class GenerationExpired extends Missing {}

/** The store did not answer within the deadline, or refused. */
export class StoreUnreachable extends EmbarchiveError {}

/** @type {Record<string, new (message: string) => EmbarchiveError>} */
const KINDS = Object.freeze({
  EmbarchiveError,
  BadInput,
  NotAnArchive,
  UnknownVersion,
  Damaged,
  Missing,
  GenerationExpired,
  StoreUnreachable,
});

/** @typedef {{kind: string, message: string}} PlainError */

/**
 * An error as a value that a worker can post; `kind` is the class name, "Error" for any other.
 *
 * @param {unknown} error
 * @returns {PlainError}
 */
export function toPlain(error) {
  const kind = error instanceof EmbarchiveError ? error.name : "Error";
  return { kind, message: error instanceof Error ? error.message : String(error) };
}

/**
 * The inverse of `toPlain`.
 *
 * @param {PlainError} plain
 * @returns {Error}
 */
export function fromPlain({ kind, message }) {
  return Object.hasOwn(KINDS, kind) ? new KINDS[kind](message) : new Error(message);
}
