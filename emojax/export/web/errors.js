// Errors that a visitor can act on, one line each.

export class UserError extends Error {}
