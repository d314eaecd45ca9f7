SELECT violation.invariant, violation.jobs, violation.examples
FROM procrastinate_deps.violations() AS violation
