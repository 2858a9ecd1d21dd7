--
-- PostgreSQL database dump
--

\restrict 6dvpfixIHLHVpezyJuuKVG7pq2bRpKjMn4fShgo4p80RlcMxmyhdGAgOTAvBbP4

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: t; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.t (
    id integer,
    v text
);


ALTER TABLE public.t OWNER TO postgres;

--
-- Name: TABLE t; Type: COMMENT; Schema: public; Owner: postgres
--

COMMENT ON TABLE public.t IS 'tiny';


--
-- Name: u; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.u (
    id integer
);


ALTER TABLE public.u OWNER TO postgres;

--
-- Name: w; Type: VIEW; Schema: public; Owner: postgres
--

CREATE VIEW public.w AS
 SELECT 1 AS one;


ALTER TABLE public.w OWNER TO postgres;

--
-- Name: 16425; Type: BLOB; Schema: -; Owner: postgres
--

SELECT pg_catalog.lo_create('16425');


ALTER LARGE OBJECT 16425 OWNER TO postgres;

--
-- Name: 16426; Type: BLOB; Schema: -; Owner: postgres
--

SELECT pg_catalog.lo_create('16426');


ALTER LARGE OBJECT 16426 OWNER TO postgres;

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.t (id, v) FROM stdin;
1	one
2	two
\.


--
-- Data for Name: u; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.u (id) FROM stdin;
\.


--
-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -
--

BEGIN;

SELECT pg_catalog.lo_open('16425', 131072);
SELECT pg_catalog.lowrite(0, '\x0102');
SELECT pg_catalog.lo_close(0);

SELECT pg_catalog.lo_open('16426', 131072);
SELECT pg_catalog.lo_close(0);

COMMIT;

--
-- PostgreSQL database dump complete
--

\unrestrict 6dvpfixIHLHVpezyJuuKVG7pq2bRpKjMn4fShgo4p80RlcMxmyhdGAgOTAvBbP4

