--
-- PostgreSQL database cluster dump
--

\restrict sovriUcDAtK5FNwEdrpA4drR6hCHnCiBGN2XTHz2ttQPDd4Tm7jBNbqz3vauI81

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;

--
-- User Configurations
--








\unrestrict sovriUcDAtK5FNwEdrpA4drR6hCHnCiBGN2XTHz2ttQPDd4Tm7jBNbqz3vauI81

--
-- PostgreSQL database cluster dump complete
--

