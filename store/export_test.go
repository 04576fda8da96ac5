package store

// MarkGroup is for tests.
const MarkGroup = markGroup
