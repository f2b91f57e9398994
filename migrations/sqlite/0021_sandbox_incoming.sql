-- PostgreSQL keeps the simulated network beside the store; here it has a file of its own, and sandbox_0003_incoming.sql.
SELECT 1;
