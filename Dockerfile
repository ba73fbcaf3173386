FROM python:3.11-slim AS dependencies

# requirements-push.txt where pushes go through Firebase (HPLUS_PUSH_BACKEND=hplus.push.senders.FcmPush).
ARG REQUIREMENTS=requirements.txt
RUN python -m venv /venv
COPY requirements.txt requirements-push.txt ./
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
    --requirement ${REQUIREMENTS}


FROM python:3.11-slim

ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin hplus

COPY --from=dependencies /venv /venv
WORKDIR /hplus
COPY . .

# The collected files are part of the image; the key is for this step only and stays out of it.
# var/attachments belongs to the server, so a volume mounted there does too.
RUN SECRET_KEY=only-for-collecting-static-files-of-this-image-Zq8Lw3Tn7YbGh2s ALLOWED_HOSTS=none \
    python manage.py collectstatic --noinput --verbosity 0 \
    && install --directory --owner hplus --group hplus var/attachments

USER hplus
EXPOSE 5000
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]
